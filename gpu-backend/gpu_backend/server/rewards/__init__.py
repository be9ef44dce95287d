"""Judging answers: the requests of one call, the pairs they ask about, and what is told of them."""
