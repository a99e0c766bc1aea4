"""The demo: an application, its client, and the comparison of query results with the requests sent."""
