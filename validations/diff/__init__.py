"""The row diff: proves that both sides hold the same rows, or lists every key that differs."""
