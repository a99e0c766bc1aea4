"""Builds objects from settings. Only this room imports all others and the adapters, and reads the environment."""
