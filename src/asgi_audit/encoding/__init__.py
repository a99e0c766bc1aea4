"""Room 2, off the path: from a sealed exchange to the bytes of its record."""
