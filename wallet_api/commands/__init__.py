"""Commands of `server.py` besides serve and migrate: check the ledger, manage API keys."""
