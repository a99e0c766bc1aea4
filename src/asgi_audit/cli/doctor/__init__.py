"""The doctor: one check for each thing that records pass through."""
