"""Choosing among labels without writing a word: options as keys of one token each, and the model's scores of the keys."""
