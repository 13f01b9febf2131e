"""Checks of roles and rights, ours and the applications'."""
