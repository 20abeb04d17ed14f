"""`make test-engine DATABASE_URL=…`: does this rulebook hold on that server? A table says what does, and what is refused."""
