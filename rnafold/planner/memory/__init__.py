"""Memory of a training step, traced on meta tensors and replayed through the allocator."""
