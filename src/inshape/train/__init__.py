"""Training: the head first, then the backbone; `train` begins a run, `resume` finishes one."""

from .front import resume, train
from .recipe import Recipe

__all__ = ["Recipe", "resume", "train"]
