"""The wallet's HTTP layer: HTTP in, one function call in PostgreSQL, HTTP out. It decides nothing."""
