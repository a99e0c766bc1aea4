"""Room 1, on the request path: the middleware, the exchange that it collects, and whose request it was."""
