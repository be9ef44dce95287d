"""The decoder-only language model of the Llama and Qwen families."""
