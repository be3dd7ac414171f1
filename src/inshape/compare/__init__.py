"""Shapes, strategies and backbones measured on the user's own pictures, and one recommended."""

from .comparison import Candidate, Comparison
from .front import compare
from .limits import Limits

__all__ = ["Candidate", "Comparison", "Limits", "compare"]
