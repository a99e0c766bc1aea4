"""Room 5, the index: stored records and the state beside them. `base` holds the contract."""
