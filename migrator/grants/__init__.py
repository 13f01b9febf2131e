"""Grants and roles: whoever reads or writes the tables on the shared side can do the same on the service side."""
