"""Step 7 of a record's path, the only way to read: scope, snapshot, cursor, page."""
