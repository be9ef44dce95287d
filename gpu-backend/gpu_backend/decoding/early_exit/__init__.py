"""Early exit (arXiv 2412.01455, reconstruction: the paper publishes neither code nor thresholds): when a token may leave before the last layer."""
