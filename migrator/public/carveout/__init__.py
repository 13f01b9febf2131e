"""The public name of what applications import; the code is where it always was, in ``migrator``."""
