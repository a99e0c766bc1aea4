"""What a record is: schema, codec, cuts, derived values, statements. Knows nothing else of the package but `errors`."""
