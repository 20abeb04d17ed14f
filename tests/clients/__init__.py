"""Clients that generators make from the OpenAPI document, and the programs of docs/clients.md, which use them."""

import re

from tests.support import PROJECT

DOCUMENT = PROJECT / "wallet_api/http/openapi.json"


def programs(language: str, url: str) -> list[str]:
    """The programs of docs/clients.md in a language, for a service at another URL."""
    text = (PROJECT / "docs/clients.md").read_text()
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [program.replace("http://localhost:8080", url) for program in found]
