"""Checks of what is already there: streams, leftovers, rows."""
