"""Statements that must hold on a side, and numbers that both sides must agree on."""
