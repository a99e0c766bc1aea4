"""Room 8, answers over HTTP. A dialect only translates HTTP to `Query` and `Page` to HTTP."""
