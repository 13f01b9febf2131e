"""The stream: events, sources, snapshot copy, apply, and the worker that runs them."""
