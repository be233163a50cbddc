"""Workloads beside training, by formulas in configs/workloads."""
