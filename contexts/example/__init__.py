"""A prepaid wallet for the demo and the tests: its shared database, its services under load, and their judge."""
