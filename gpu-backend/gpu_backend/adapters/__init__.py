"""Adapters of the base model in PEFT's file format: kept on disk by content hash, checked, and turned into tensors."""
