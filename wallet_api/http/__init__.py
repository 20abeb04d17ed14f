"""Requests to function calls, rows to answers: the operations, their values, errors, API keys and documents.

Each operation is declared once. What may be done, and in which words it is refused, the rulebook decides.
"""
