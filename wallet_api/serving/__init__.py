"""Sockets and processes: HTTP/1.1 on uvicorn, limits on clients, worker processes, and a clean stop.

It knows nothing of payments: it gives requests to the application of wallet_api.http.
"""
