"""Step 5 of a record's path, the sidecar's loop: poll, decode, write, commit; and how complete the index is."""
