"""Room 6, the only way to read: scope, snapshot, cursor, page."""
