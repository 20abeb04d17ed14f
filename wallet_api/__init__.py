"""The wallet's service: turns HTTP requests into calls of PostgreSQL functions. It contains no rules."""

# Of the package, /openapi.json, wallet_info, CHANGELOG.md and the tag in git.
__version__ = "0.1.0"
