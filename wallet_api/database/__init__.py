"""Everything between the service and PostgreSQL: connections, calls, batching, migrations, and an embedded server.

It calls the functions of the rulebook and returns their rows as text. It knows no rules and nothing about HTTP.
"""
