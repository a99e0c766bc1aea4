"""Room 7, exports: a request becomes one object of whole records, in a directory or in S3-compatible storage."""
