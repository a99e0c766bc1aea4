"""Room 4: carries entries as bytes. `base` is the contract; every record leaves its process through a journal."""
