"""Programs that make what the project ships; run them from the root of the repository."""
