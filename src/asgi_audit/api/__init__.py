"""Step 8 of a record's path, the HTTP API. A dialect only translates HTTP to `Query` and `Page` to HTTP."""
