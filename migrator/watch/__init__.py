"""The watch over the closed side: its write locks stand, nobody writes past them, and who still uses it is known."""
