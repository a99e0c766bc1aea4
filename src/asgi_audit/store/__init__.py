"""Step 6 of a record's path, the index: stored records and the state beside them. `base` holds the contract."""
