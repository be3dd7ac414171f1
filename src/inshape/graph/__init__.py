"""The only rooms that touch Keras internals: reading, editing and rebuilding a model."""
