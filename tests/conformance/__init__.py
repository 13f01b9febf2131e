"""Does a shim in another language do what the protocol asks? ``python -m tests.conformance -- COMMAND`` finds out."""
