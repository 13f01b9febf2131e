"""The entry: ``python migrate.py VERB CONTEXT``, the same as the console script ``carveout``."""

from migrator.cli import main

if __name__ == "__main__":
    main()
