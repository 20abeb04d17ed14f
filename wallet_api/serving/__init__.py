"""Sockets and processes: HTTP/1.1 on uvicorn, client limits, worker processes and graceful shutdown.

It knows nothing about payments: it passes requests to the application in wallet_api.http.
"""
