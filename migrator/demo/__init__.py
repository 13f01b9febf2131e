"""The demo: the wallet example moved live between two embedded servers, told in plain words and numbers."""
