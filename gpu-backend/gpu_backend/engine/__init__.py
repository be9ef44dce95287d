"""Continuous batching: who runs in which step, and the step itself."""
