"""One file per internal operation."""
