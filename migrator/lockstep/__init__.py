"""Lockstep: one application transaction writes both sides, or neither."""
