"""The frozen part of a network, run once: where to cut it, what to keep, and what it can tell."""
