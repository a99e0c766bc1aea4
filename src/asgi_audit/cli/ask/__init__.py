"""`asgi-audit ask`: questions at the command line, over the API or the index of this machine."""
