"""Checks of the tables that move and what hangs on them."""
