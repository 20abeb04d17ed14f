"""The HTTP layer: turns requests into function calls, and rows into responses.

Each operation is declared once. The rulebook (db/functions) decides what is allowed and words the refusals.
"""
