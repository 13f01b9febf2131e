"""Prepare, complete and abort: the steps at the two ends of a migration."""
