"""wallet_api/http/functions.json: the arguments and columns of the public functions, from the database's catalogue."""

import json
from typing import Any

import psycopg

_QUERY = """
    select function.proname, argument.name, argument.mode, format_type(argument.type, null),
           pg_get_function_arg_default(function.oid, argument.position::integer)
    from pg_proc as function,
         unnest(function.proargnames, coalesce(function.proargmodes, array_fill('i'::"char", array[function.pronargs])),
                coalesce(function.proallargtypes, function.proargtypes::oid[]))
             with ordinality as argument (name, mode, type, position)
    where function.pronamespace = 'wallet'::regnamespace and function.proname !~ '^_'
    order by function.proname, argument.position"""


def functions(conninfo: str) -> dict[str, Any]:
    """The public functions by name: the types of their arguments (without p_) and of their result columns.

    An argument that may be left out has a default, in SQL.
    """
    found: dict[str, Any] = {}
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(_QUERY).fetchall()
    for function, name, mode, type_name, default in rows:
        about = found.setdefault(function, {"arguments": {}, "columns": {}})
        if mode == "t":
            about["columns"][name] = type_name
        else:
            argument = about["arguments"][name.removeprefix("p_")] = {"type": type_name}
            if default is not None:
                argument["default"] = default
    return found


def written(found: dict[str, Any]) -> str:
    """The text of the file: a line for each argument, and for each column."""
    return json.dumps(found, indent=1) + "\n"
