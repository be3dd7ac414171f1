"""Pretrained weights: where they come from, and what a new input shape makes of them."""
