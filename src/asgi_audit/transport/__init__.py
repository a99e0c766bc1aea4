"""Room 4: carries bytes. `base` is the contract; the journal is how every record leaves the process."""
