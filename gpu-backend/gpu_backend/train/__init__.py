"""Training loops. Needs requirements/train.txt; the serving process imports nothing of this."""
