"""Everything between the service and PostgreSQL: connections and calls, batching, migrations, and a server of its own.

It calls functions of the rulebook and returns their rows as text. It knows no rule, and nothing of HTTP.
"""
