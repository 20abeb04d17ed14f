"""What the SQL of the rulebook says of itself: the refusals of each function, and the values that a rule allows."""

import functools
import json
import re
from typing import Any

from wallet_api.settings import PROJECT

_FUNCTIONS = PROJECT / "db/functions"
_REGISTRY = re.compile(r"\$registry\$(.*)\$registry\$", re.DOTALL)
_CODE = re.compile(r"'(W[A-Z]\d{3})'")
_CALL = re.compile(r"\bwallet\.(_\w+)\(")
_DEFINITION = re.compile(r"^create or replace function wallet\.", re.MULTILINE)


@functools.cache
def registry() -> dict[str, dict[str, Any]]:
    """The registry of refusals in _refuse.sql, by code. Some have `allowed`."""
    found = _REGISTRY.search((_FUNCTIONS / "_refuse.sql").read_text())
    assert found is not None
    entries: dict[str, dict[str, Any]] = json.loads(found[1])
    return entries


def refusals_of(function: str) -> list[str]:
    """The codes that a public function may raise, by itself or by the helpers that it calls, in order."""
    helpers = _helpers()
    texts = [(_FUNCTIONS / f"{function}.sql").read_text()]
    called: set[str] = set()
    codes: set[str] = set()
    while texts:
        text = texts.pop()
        codes |= set(_CODE.findall(text))
        new = (set(_CALL.findall(text)) & helpers.keys()) - called
        texts += [helpers[name] for name in new]
        called |= new
    return sorted(codes)


def allowed(code: str, argument: str) -> dict[str, Any]:
    """The values of an argument that the rule with this code allows, as JSON Schema; empty if it says nothing of it."""
    about = registry()[code]
    values: dict[str, Any] = about.get("allowed", {})
    return values if about["argument"] == argument else {}


@functools.cache
def _helpers() -> dict[str, str]:
    """The definitions of all helpers but the registry, by name."""
    definitions = [
        definition
        for path in sorted(_FUNCTIONS.glob("*.sql"))
        if path.stem != "_refuse"
        for definition in _DEFINITION.split(path.read_text())[1:]
    ]
    return {name: definition for definition in definitions if (name := definition.partition("(")[0]).startswith("_")}
