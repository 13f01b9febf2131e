"""What a service adopts to send and to handle messages. Light to import."""
