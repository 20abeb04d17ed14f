"""The wallet's service: turns HTTP requests into calls of PostgreSQL functions. It contains no rules."""
