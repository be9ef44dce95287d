"""What benches in Python share: the served model, measured stretches of decoding, prompts, rivals and the report."""
