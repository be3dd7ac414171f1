"""Pictures from folders, tables and arrays to batches that the model takes."""
