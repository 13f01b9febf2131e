"""Cross-context references: counted across two databases at a barrier."""
