"""What the service tells of itself: the record of each request, the log, metrics and traces.

It knows nothing of operations or of the database: whoever handles a request notes in its record what happened.
"""
