"""Room 4, the sidecar's loop: poll, decode, write, commit."""
