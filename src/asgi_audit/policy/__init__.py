"""What of an exchange becomes part of its record."""
