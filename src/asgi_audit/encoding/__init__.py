"""Step 2 of a record's path, in the recorder's thread: makes the bytes of a record from a sealed exchange."""
