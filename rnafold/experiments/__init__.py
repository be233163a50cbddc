"""Experiments as a habit: variants on one development split with several seeds, and a verdict for each."""
