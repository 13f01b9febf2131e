"""Great-expectations suites: what data teams say about a table, run on either side or both at one barrier."""
