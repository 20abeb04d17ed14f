"""wallet_api/http/docs.html: the OpenAPI document as a page without scripts or external resources."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from tools import errors

Node = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --faint: light-dark(#5c6470, #9aa3ae);
  --get: light-dark(#0b6e4f, #5fd3a6); --post: light-dark(#1a56b0, #8ab8ff); }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1.25rem 5rem; font: 16px/1.5 system-ui, sans-serif;
  color: light-dark(#1b1f24, #dfe3e8); background: light-dark(#fff, #14171a); }
a { color: inherit; text-underline-offset: .2em; }
h1 { margin: .5rem 0; } h2 { margin: 3rem 0 0; padding-bottom: .25rem; border-bottom: 2px solid var(--line); }
h3 { margin: 2.5rem 0 .25rem; font-size: 1.05rem; } h4 { margin: 1.25rem 0 .25rem; font-size: .95rem; }
code, pre { font: 14px/1.5 ui-monospace, Menlo, Consolas, monospace; }
code { overflow-wrap: break-word; } h3 code { font-size: 1.05rem; }
pre { margin: .5rem 0; padding: .6rem .8rem; background: var(--soft); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
p { margin: .25rem 0; } table { border-collapse: collapse; width: 100%; margin: .25rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-top: 1px solid var(--line); }
th { font-weight: 600; color: var(--faint); border-top: 0; } td:first-child { white-space: nowrap; }
  td p { margin: 0; } td:last-child { width: 50%; }
.faint, summary { color: var(--faint); } summary { cursor: pointer; }
.method { display: inline-block; min-width: 3.2em; font-weight: 700; }
.get { color: var(--get); } .post { color: var(--post); }
nav ul { list-style: none; padding: 0; margin: .5rem 0; } nav li { margin: .15rem 0; }
nav a { text-decoration: none; } nav a:hover code { text-decoration: underline; }
.scroll { overflow-x: auto; }
"""


def written(document: Node) -> str:
    """The text of wallet_api/http/docs.html."""
    return "\n".join(_page(document)) + "\n"


def _page(document: Node) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
    yield f"<title>{escape(document['info']['title'])}</title><style>{_STYLE}</style></head><body>"
    yield f"<header><h1>{escape(document['info']['title'])}</h1>{_prose(document['info']['description'])}"
    yield '<p>For programs, see <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p></header>'
    groups = {
        tag["name"]: [
            (method, path, described)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
            if tag["name"] in described["tags"]
        ]
        for tag in document["tags"]
    }
    abouts = {tag["name"]: tag["description"] for tag in document["tags"]}
    yield "<nav><h2>Operations</h2>"
    for group, found in groups.items():
        yield f"<h4>{escape(group)}</h4><ul>"
        for method, path, described in found:
            link = f'<a href="#{described["operationId"]}">{_title(method, path)}</a>'
            yield f"<li>{link} {escape(described['summary'])}</li>"
        yield "</ul>"
    yield "</nav><main>"
    for group, found in groups.items():
        yield f"<section><h2>{escape(group)}</h2><p>{escape(abouts[group])}.</p>"
        for method, path, described in found:
            yield from _operation(document, method, path, described)
        yield "</section>"
    yield '<section id="errors"><h2>Errors</h2>'
    yield "<p>The fields of <code>application/problem+json</code>, and the codes of <code>Error-Code</code>:</p>"
    yield from _table(["Field", "Type", ""], _member_rows(document, document["components"]["schemas"]["Problem"]))
    yield from _table(
        ["Code", "Status", "Error", "Cause", "Cure"],
        [
            [
                f'<code id="{refusal.code}">{refusal.code}</code>',
                str(refusal.status),
                *map(escape, (errors.example(refusal), refusal.cause, refusal.cure)),
            ]
            for refusal in errors.registry()
        ],
    )
    yield "</section></main></body></html>"


def _title(method: str, path: str) -> str:
    return f'<code><span class="method {method}">{method.upper()}</span> {escape(path)}</code>'


def _operation(document: Node, method: str, path: str, described: Node) -> Iterator[str]:
    yield f'<article id="{described["operationId"]}"><h3>{_title(method, path)}</h3>'
    yield f"<p>{escape(described['summary'])}.</p>{_prose(described.get('description', ''))}"
    asked = [
        (parameter["name"], parameter["in"], parameter["schema"], parameter.get("required"), parameter["description"])
        for parameter in described.get("parameters", [])
    ]
    if "requestBody" in described:
        body = _resolved(document, described["requestBody"]["content"]["application/json"]["schema"])
        asked += [
            (name, "body", schema, name in body["required"], schema["description"])
            for name, schema in body["properties"].items()
        ]
    if asked:
        yield from _table(
            ["Field", "In", "Type", ""],
            [
                [
                    f"<code>{escape(name)}</code>",
                    place,
                    _type(document, schema),
                    _prose(about + ("" if required else " (optional)")),
                ]
                for name, place, schema, required, about in asked
            ],
        )
    yield f"<pre>{escape(_curl(method, path, described))}</pre>"
    yield from _answer(document, described["responses"]["200"])
    yield from _refusals(described["responses"])
    yield "</article>"


def _answer(document: Node, answer: Node) -> Iterator[str]:
    """The successful response: its headers and its fields, nested ones included."""
    [(content_type, content)] = answer["content"].items()
    yield f'<h4>Response <span class="faint">200, {escape(content_type)}</span></h4>'
    rows = [
        [f"<code>{escape(name)}</code>", "header", escape(header["description"])]
        for name, header in answer.get("headers", {}).items()
    ]
    rows += _member_rows(document, content["schema"])
    if rows:
        yield from _table(["Field", "Type", ""], rows)


def _member_rows(document: Node, schema: Node) -> list[list[str]]:
    return [
        [
            f"<code>{escape(name)}</code>",
            _type(document, member),
            _prose(member.get("description", "") + ("" if always else " (may be missing)")),
        ]
        for name, member, always in _members(document, schema, "")
    ]


def _members(document: Node, schema: Node, prefix: str) -> Iterator[tuple[str, Node, bool]]:
    schema = _resolved(document, schema)
    for choice in schema.get("anyOf", []):
        yield from _members(document, choice, prefix)
    for name, member in schema.get("properties", {}).items():
        yield f"{prefix}{name}", member, name in schema.get("required", [])
        if "items" in member:
            yield from _members(document, member["items"], f"{prefix}{name}[].")


def _refusals(responses: Node) -> Iterator[str]:
    rows = []
    for status, response in list(responses.items())[1:]:
        content = response["content"].get("application/json", {})
        for name, example in content.get("examples", {}).items():
            code = name.partition(" ")[0]
            link = f'<a href="#{code}"><code>{code}</code></a>'
            rows.append([status, link, escape(example["value"]["Error"])])
    if rows:
        yield f'<details><summary>{len(rows)} refusals, each <code>{{"Error":"…"}}</code></summary>'
        yield from _table(["Status", "Error-Code", "Error"], rows)
        yield "</details>"


def _curl(method: str, path: str, described: Node) -> str:
    """An example curl command for an operation."""
    query = []
    for parameter in described.get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
        elif parameter["in"] == "query" and "example" in parameter and "contentSchema" not in parameter["schema"]:
            query.append(f"{parameter['name']}={parameter['example']}")
    words = ["curl"]
    if method == "post":
        words += ["-d", json.dumps(described["requestBody"]["content"]["application/json"].get("example", {}))]
    words.append(f"http://localhost:8080{path}{'?' if query else ''}{'&'.join(query)}")
    return shlex.join(words)


def _resolved(document: Node, schema: Node) -> Node:
    if "$ref" not in schema:
        return schema
    found: Node = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _type(document: Node, schema: Node) -> str:
    """The type of a value, as HTML. That an optional field may be null is said once, for all."""
    schema = _resolved(document, next(iter(schema.get("anyOf", [])), schema))
    if "items" in schema:
        elements = {"string": "strings", "integer": "integers"}.get(schema["items"].get("type"), "objects")
        return f"array of up to {schema['maxItems']:,} {elements}" if "maxItems" in schema else f"array of {elements}"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(choice)}</code>" for choice in schema["enum"])
    if "type" not in schema:
        return "any"
    if "contentSchema" in schema:
        return "JSON object, as text"
    if schema.get("format") == "decimal":
        return "decimal, as a string"
    if schema.get("format") == "date-time":
        return "timestamp"
    if "string" in schema["type"]:
        return (
            f"string, {schema['minLength']} to {schema['maxLength']} characters" if "maxLength" in schema else "string"
        )
    if "integer" in schema["type"]:
        small = schema.get("maximum", 2**63) < 2**63 - 1
        return f"{schema['minimum']} to {schema['maximum']}" if small else "64-bit integer"
    return "true or false" if "boolean" in schema["type"] else "object"


def _table(heads: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield f'<div class="scroll"><table><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr>'
    for row in rows:
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
    yield "</table></div>"


def _prose(text: str) -> str:
    """Renders the document's Markdown subset: paragraphs, lists and code."""
    html = []
    for paragraph in filter(None, text.split("\n\n")):
        items = re.split(r"(?:^|\n)- ", paragraph)
        marked = [re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(item, quote=False)) for item in items]
        html.append(
            f"<p>{marked[0]}</p>"
            if len(items) == 1
            else f"<ul>{''.join(f'<li>{item}</li>' for item in marked[1:])}</ul>"
        )
    return "".join(html)
