"""The switch: cutover and rollback are one procedure with the sides exchanged."""
