"""Writes the files that are generated: what the code says, for readers and for the service. `make generate` runs it."""
