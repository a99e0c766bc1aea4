"""Settings to objects: the only room that knows all rooms, reads the environment and imports adapters."""
