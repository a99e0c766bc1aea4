"""Exports: writes the records of each export request to one object, in a directory or in S3-compatible storage."""
