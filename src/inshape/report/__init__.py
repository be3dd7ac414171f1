"""Reports: a run or a comparison as one page that needs nothing else."""

from .front import leave_report, report

__all__ = ["leave_report", "report"]
