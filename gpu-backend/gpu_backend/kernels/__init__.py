"""Small operators written in C for CPUs; the torch twins stand in `layers`."""
