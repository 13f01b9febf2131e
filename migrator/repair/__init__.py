"""Puts differing rows of the closed side right, key by key."""
