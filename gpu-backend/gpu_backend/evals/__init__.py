"""Measures what models are worth, through the engine that serves them. Needs requirements/train.txt; the serving process imports nothing of this."""
