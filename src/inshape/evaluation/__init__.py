"""Evaluation: how good a run is on labelled pictures."""
