"""HTTP in front of the engine: authentication, parsing, answers and event streams."""
