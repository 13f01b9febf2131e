"""Parity: what has to be the same on both sides beside the rows."""
