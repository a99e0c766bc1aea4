"""Room 5, where records rest. `base` is the contract."""
