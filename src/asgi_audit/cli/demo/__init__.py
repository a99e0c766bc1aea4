"""The demo: an application, what drives it, and what compares the answers with what was sent."""
