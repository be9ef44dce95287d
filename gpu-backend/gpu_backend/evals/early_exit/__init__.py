"""`npm run early-exit`: how early a model's layers know its next token, what gates could save, and which operating points hold."""
