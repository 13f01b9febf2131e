"""Checks of the servers themselves."""
