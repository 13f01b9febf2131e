"""The ground floor: what a bounded context is, and the two databases it moves between."""
