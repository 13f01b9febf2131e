"""What stands between applications and databases: held while no side is open, then led to the one that opens."""
