"""Room 8, the HTTP API. A dialect only translates HTTP to `Query` and `Page` to HTTP."""
