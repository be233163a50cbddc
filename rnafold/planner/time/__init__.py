"""Hours of a run: roofline, measured steps, loading."""
