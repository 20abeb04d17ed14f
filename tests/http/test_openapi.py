"""/openapi.json is true: of the operations, of their fields, headers and refusals; and /docs shows it."""

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31

import wallet_api
from tests.http.agreement import disagreements
from tests.support import serving
from tools import errors, rules
from wallet_api.http import operations
from wallet_api.http.fields import Field
from wallet_api.http.operations import Operation

Node = dict[str, Any]


# Rules that no operation can come upon, and why.
# API keys are made and revoked in psql, or by server.py key.
@pytest.fixture(scope="module")
def document(api: httpx2.Client) -> Node:
    found: Node = api.get("/openapi.json").json()
    return found


def described(document: Node) -> list[tuple[str, str, Node]]:
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_openapi_3_1(document: Node) -> None:
    assert document["openapi"] == "3.1.0"
    assert list(jsonschema_rs.validator_for(OPENAPI_31).iter_errors(document)) == []


def test_its_version_is_that_of_the_package(document: Node) -> None:
    assert document["info"]["version"] == wallet_api.__version__


def test_an_amount_is_a_string_so_that_no_generated_client_has_a_float(document: Node) -> None:
    """The service accepts a JSON number, too: test_decoding.py."""
    asked = [
        (field, schema)
        for operation in operations.ALL.values()
        for field, schema in asked_schemas(document, operation)
        if field.type == "numeric"
    ]
    assert {field.name for field, _ in asked} == {"Amount", "min", "max"}
    for field, schema in asked:
        assert (schema["type"], schema["format"]) in [("string", "decimal"), (["string", "null"], "decimal")], field
    assert "number" not in re.findall(r"'(number)'", str(document))


def test_all_references_lead_somewhere_and_all_schemas_are_used(document: Node) -> None:
    used = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert used == set(document["components"]["schemas"])


def test_it_describes_each_route_and_no_other(document: Node) -> None:
    served = {(method, path) for path, methods in operations.ROUTES.items() for method in methods if method != "HEAD"}
    assert served == {(method, path) for method, path, _ in described(document)}
    assert len(served) == len(operations.ALL)


def test_each_path_allows_the_methods_that_are_described(api: httpx2.Client, document: Node) -> None:
    for path, methods in document["paths"].items():
        response = api.request("TRACE", path.replace("{id}", "1"))
        assert response.status_code == 405
        assert set(response.headers["allow"].split(", ")) - {"HEAD"} == {method.upper() for method in methods}


def test_each_rule_is_a_refusal_of_some_operation_with_its_words(document: Node) -> None:
    told = {
        code: example["value"]["Error"]
        for _, _, operation in described(document)
        for response in operation["responses"].values()
        for code, example in response["content"].get("application/json", {}).get("examples", {}).items()
        if code in rules.refusals()
    }
    known = {code: refusal.sentence for code, refusal in rules.refusals().items()}
    assert known
    assert told == known


def test_what_a_rule_allows_is_in_the_document(document: Node) -> None:
    """Limits are data of the registry, and do not depend on the words of a refusal."""
    shown = [
        (operation.function, asked.argument, schema)
        for operation in operations.ALL.values()
        for asked, schema in asked_schemas(document, operation)
    ]
    limited = [
        (code, about["argument"], about["allowed"]) for code, about in rules.registry().items() if "allowed" in about
    ]
    for code, argument, allowed in limited:
        found = [schema for function, name, schema in shown if name == argument and code in rules.refusals_of(function)]
        assert found, code
        assert all(allowed.items() <= schema.items() for schema in found), code


def asked_schemas(document: Node, operation: Operation) -> Iterator[tuple[Field, Node]]:
    """The fields of an operation that are passed to its function, each with its schema."""
    if operation.function:
        described = document["paths"][operation.path][operation.method.lower()]
        parameters = {parameter["name"]: parameter["schema"] for parameter in described.get("parameters", [])}
        if operation.body is not None:
            name = f"{operation.name[0].upper()}{operation.name[1:]}Request"
            parameters |= document["components"]["schemas"][name]["properties"]
        for asked in (*operation.in_path, *operation.query, *(operation.body or ())):
            if asked.argument:
                yield asked, resolved(document, parameters[asked.name])


def resolved(document: Node, schema: Node) -> Node:
    if "$ref" not in schema:
        return schema
    found: Node = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def test_service_and_document_agree(database: str, tmp_path: Path) -> None:
    """`make agree` asks for longer."""
    with serving(DATABASE_URL=database) as server:
        found, statuses = disagreements(server.url, database, tmp_path, "--max-examples", "5", "--seed", "1")
    assert not found, found
    answered = set(operations.ALL)
    assert set(statuses) == answered
    # where nothing is granted, nothing is proved
    assert {name for name, counted in statuses.items() if counted[200]} == answered


def test_docs_shows_every_operation_field_and_refusal(api: httpx2.Client, document: Node) -> None:
    page = api.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for method, path, operation in described(document):
        article = page.text.split(f'<article id="{operation["operationId"]}">')[1].split("</article>")[0]
        assert f"{method}</span> {path}<" in article
        for parameter in operation.get("parameters", []):
            assert f"<code>{parameter['name']}</code>" in article
        for status, response in operation["responses"].items():
            for header in response.get("headers", {}) if status == "200" else ():
                assert header in article
            for example in response["content"].get("application/json", {}).get("examples", {}).values():
                assert escape(example["value"]["Error"]) in article
    for schema in document["components"]["schemas"].values():
        for name in schema.get("properties", {}):
            assert name in page.text


def test_docs_explains_every_code(api: httpx2.Client) -> None:
    page = api.get("/docs").text
    for refusal in errors.registry():
        row = page.split(f'<code id="{refusal.code}">')[1].split("</tr>")[0]
        assert all(escape(text) in row for text in (str(refusal.status), refusal.cause, refusal.cure))


def test_docs_needs_nothing_from_elsewhere(api: httpx2.Client) -> None:
    page = api.get("/docs")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"<script|<img|<iframe|\ssrc=|@import|url\(|\son\w+=", page.text)
    links = set(re.findall(r'href="([^"#]+)"', page.text))
    assert links == {"/openapi.json", "data:,"}
