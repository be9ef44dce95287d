"""From comparisons of two to an order of many: the maths of a pair, the Bradley-Terry fit, and which pairs to compare. Neither torch nor a server here."""
