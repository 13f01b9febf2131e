"""Comparisons with other movers and differs, in alternating rounds on two throw-away servers."""
