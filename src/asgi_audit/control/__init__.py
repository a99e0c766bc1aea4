"""What the API itself must remember: keys and the signing secret, in `control.db`."""
