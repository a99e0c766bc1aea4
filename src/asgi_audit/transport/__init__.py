"""Step 4 of a record's path: carries entries as bytes. `base` is the contract; every record leaves its process through
a journal."""
