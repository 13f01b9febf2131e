"""Makes contexts: their files from a database's own catalogs, and the comparison of two databases' tables."""

from contexts.scaffold.facts import Difference, compare
from contexts.scaffold.left_behind import NotCarried, not_carried
from contexts.scaffold.new import NewContext, init, new_context, render
from contexts.scaffold.reader import read_shape
from contexts.scaffold.shape import Shape

__all__ = [
    "Difference",
    "NewContext",
    "NotCarried",
    "Shape",
    "compare",
    "init",
    "new_context",
    "not_carried",
    "read_shape",
    "render",
]
