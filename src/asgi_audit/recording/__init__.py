"""Step 3 of a record's path: one thread that builds records from sealed exchanges and writes them to the journal."""
