"""Room 2, off the path: one thread that builds records from sealed exchanges and writes them ahead to the journal."""
