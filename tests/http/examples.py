"""Example requests: those of the OpenAPI document."""

import json
from typing import Any

from tests.support import PROJECT
from wallet_api.http.operations import Operation

_DOCUMENT = json.loads((PROJECT / "wallet_api/http/openapi.json").read_text())


def example(operation: Operation) -> dict[str, Any]:
    """The example of an operation's body; empty if it has none."""
    described = _DOCUMENT["paths"][operation.path][operation.method.lower()]
    content = described.get("requestBody", {"content": {"application/json": {"example": {}}}})["content"]
    found: dict[str, Any] = content["application/json"]["example"]
    return found
