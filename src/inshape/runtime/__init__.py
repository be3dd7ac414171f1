"""Whatever loads, runs, converts or times a model file."""
