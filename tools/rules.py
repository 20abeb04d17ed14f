"""Reads the SQL of db/functions/: the refusals that each function may raise, and the values that a rule allows."""

import functools
import json
import re
from typing import Any

from wallet_api.http.refusals import STATUS, Refusal
from wallet_api.settings import PROJECT

_FUNCTIONS = PROJECT / "db/functions"
_REGISTRY = re.compile(r"\$registry\$(.*)\$registry\$", re.DOTALL)
_CODE = re.compile(r"'(W[A-Z]\d{3})'")
_CALL = re.compile(r"\bwallet\.(_\w+)\(")
_DEFINITION = re.compile(
    r"^create or replace function wallet\.(\w+)\(.*?^as \$\$$(.*?)^\$\$;$", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(r"--.*")


@functools.cache
def registry() -> dict[str, dict[str, Any]]:
    """The registry of refusals in _refuse.sql, by code. Some have `allowed`."""
    found = _REGISTRY.search((_FUNCTIONS / "_refuse.sql").read_text())
    assert found is not None
    entries: dict[str, dict[str, Any]] = json.loads(found[1])
    return entries


@functools.cache
def refusals() -> dict[str, Refusal]:
    """The refusals of the wallet's rules, by code."""
    return {
        code: Refusal(code, STATUS[code[:2]], about["message"], about["cause"], about["cure"])
        for code, about in registry().items()
        if code[:2] in STATUS
    }


def refusals_of(function: str) -> list[str]:
    """The codes that a public function may raise, by itself or by the helpers that it calls, in order."""
    bodies = _bodies()
    called: set[str] = set()
    new = {function}
    while new:
        called |= new
        new = {name for caller in new for name in _CALL.findall(bodies[caller])} & bodies.keys() - called
    return sorted({code for name in called for code in _CODE.findall(bodies[name])})


def allowed(code: str, argument: str) -> dict[str, Any]:
    """The values of an argument that the rule with this code allows, as JSON Schema; empty if it says nothing of it."""
    about = registry()[code]
    values: dict[str, Any] = about.get("allowed", {})
    return values if about["argument"] == argument else {}


@functools.cache
def _bodies() -> dict[str, str]:
    """The bodies of all functions but the registry, by name, without comments."""
    bodies = {
        name: _COMMENT.sub("", body)
        for path in sorted(_FUNCTIONS.glob("*.sql"))
        for name, body in _DEFINITION.findall(path.read_text())
    }
    del bodies["_refusals"]
    return bodies
