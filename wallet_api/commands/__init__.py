"""What `server.py` does besides serving and migrating: it checks the ledger, and manages API keys."""
