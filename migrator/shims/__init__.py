"""What an application adopts: the gate, for psycopg and for SQLAlchemy. Light to import."""
