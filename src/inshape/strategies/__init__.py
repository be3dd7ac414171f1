"""The ways to change an input shape: pure functions from a `GraphSpec` to a `Decision`."""
