"""Room 1, on the request path: the middleware, the exchange that it collects, who and what it was, what is kept."""
