"""Model definitions and the readers of their weights."""
