"""Evaluation: how good a run is on labelled pictures."""

from .evaluation import Evaluation
from .front import evaluate

__all__ = ["Evaluation", "evaluate"]
