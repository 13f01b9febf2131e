"""The loops of a worker: the initial copy and the stream, with barriers, pauses and a clean stop."""
