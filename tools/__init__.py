"""Writes the generated files, some for readers and some for the service. `make generate` runs it."""
