"""Model files of any kind as plain functional Keras models: the mirror of `exporting`."""
