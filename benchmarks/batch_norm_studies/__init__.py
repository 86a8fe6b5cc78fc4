"""The studies behind benchmarks/batch_norm.py: one function a study, which yields a head and rows."""
