"""Try, Confirm, Cancel: business transactions that the boundary cuts. Light to import: an application adopts it."""
