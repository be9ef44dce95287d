"""The GPU backend of Attune: everything that needs tensors, behind a small internal HTTP API."""
