"""A proof that is kept fresh."""

from typing import Final

#: The role of the lock in the shared database: one continuous verification for each context.
ROLE: Final = "continuous verification"
