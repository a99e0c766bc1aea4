"""Room 7, exports: writes each export request as one object of whole records, to a directory or to S3-compatible
storage."""
