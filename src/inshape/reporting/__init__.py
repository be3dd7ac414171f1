"""Reports: a run or a comparison as one page that needs nothing else."""
