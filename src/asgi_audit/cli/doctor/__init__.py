"""The doctor: one check for each component that records pass through."""
