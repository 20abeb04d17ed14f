"""The record of each request, the log, metrics and traces.

It knows nothing about operations or the database: the code that handles a request adds the facts to its record.
"""
