"""Room 5, the sidecar's loop: poll, decode, write, commit; and how complete the index is."""
