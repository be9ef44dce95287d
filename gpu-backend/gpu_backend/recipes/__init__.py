"""Recipes: which model is trained on which data with which settings. `python -m gpu_backend.recipes NAME --help` runs one."""
