"""Data sets as plain records, read from a folder that is never part of the product."""
