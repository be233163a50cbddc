"""Everything between a clone and a running Kaggle kernel: the dataset to upload, and the session inside the kernel."""
