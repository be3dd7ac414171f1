"""The version, in one place for the package, its metadata and the run folders."""

__version__ = "0.1.0"
