"""Judging answers with a causal LM: how a question and two answers become one prompt whose next token names the better one."""
