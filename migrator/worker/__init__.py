"""The worker process: runs what each context's migration row asks for, and reports."""
