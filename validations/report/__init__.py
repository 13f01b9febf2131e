"""A proof as one HTML file that needs nothing else."""
