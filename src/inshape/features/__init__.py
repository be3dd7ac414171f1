"""Frozen-backbone features: where to cut, how to run the frozen part fast, and what to keep."""
