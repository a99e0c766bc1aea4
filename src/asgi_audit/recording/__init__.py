"""Room 3, off the path: one thread that has records built from sealed exchanges and writes them to the journal."""
