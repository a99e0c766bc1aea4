"""Decides which parts of an exchange become part of its record."""
