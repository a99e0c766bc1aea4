"""Step 1 of a record's path, inside the request: the middleware, the exchange that it collects, and who made the
request."""
