"""Whether the service and its document agree: schemathesis asks what the document allows, and what it does not.

`make agree` does it for as long as is asked, on a PostgreSQL of its own; tests/http/test_openapi.py in short.
"""

import argparse
import copy
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from tests.support import open_account, payment_body, serving
from tools import errors
from wallet_api.database import embedded, migrations
from wallet_api.http import refusals

Node = dict[str, Any]
Statuses = dict[str, Counter[int]]

# A hold can be captured or voided once, and schemathesis tries each value: so the two have holds of their own.
_CAPTURED, _VOIDED = range(1, 31), range(31, 61)

# All checks, but for one: whether a request is granted depends on more than its form. (That those are granted that
# should be is what all other tests are about; here, that each operation grants some.)
#
# What cannot be read in a batch is an outcome, with 200: so there, nothing has to be rejected.
#
# Ids are often such that there is an account, a currency or a payment, and amounts such that there is money enough.
_CONFIGURATION = """
continue-on-failure = true
[checks]
positive_data_acceptance.enabled = false
[[operations]]
include-operation-id = "makePayments"
checks.negative_data_rejection.enabled = false
[[operations]]
include-operation-id = ["captureHold", "getHold"]
parameters = { "path.id" = { dictionary = "captured", probability = 0.8 } }
[[operations]]
include-operation-id = "voidHold"
parameters = { "path.id" = { dictionary = "voided", probability = 0.8 } }
[dictionaries]
ids.values = [1, 2, 3, 4]
captured.values = CAPTURED
voided.values = VOIDED
amounts.values = ["0.01", "0.5", "1"]
[parameters]
"path.id" = { dictionary = "ids", probability = 0.7 }
"""
_BODIES = "".join(
    f'"body.{place}{name}" = {{ dictionary = "{dictionary}", probability = 0.8 }}\n'
    for place in ("", "Payments[*].")
    for name, dictionary in [
        ("BuyerAccountID", "ids"),
        ("SellerAccountID", "ids"),
        ("CurrencyID", "ids"),
        ("Amount", "amounts"),
    ]
)


def disagreements(url: str, conninfo: str, folder: Path, *options: str) -> tuple[str, Statuses]:
    """What schemathesis has to complain of, "" for nothing; and how often each operation was answered how.

    Voids and revocations come last, in runs of their own: schemathesis voids every hold that it learns of, and would
    leave none to capture; and it revokes every API key, its own too.
    """
    with httpx2.Client(base_url=url) as api:
        _fill(api)
        document = api.get("/openapi.json").json()
    (folder / "openapi.json").write_text(json.dumps(_closed(document)))
    configuration = _CONFIGURATION.replace("CAPTURED", str([*_CAPTURED])).replace("VOIDED", str([*_VOIDED]))
    (folder / "schemathesis.toml").write_text(configuration + _BODIES)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml")]
    command += [
        "run",
        str(folder / "openapi.json"),
        "--url",
        url,
        "--header",
        f"Authorization: Bearer {_key(conninfo)}",
    ]
    command += ["--report", "har", "--report-har-path"]
    complaints = ""
    statuses: Statuses = {}
    last = ("voidHold", "revokeAPIKey")
    parts = [[*[f"--exclude-operation-id={name}" for name in last], *options]]
    # The same requests each time: a random body may be a blank, which counts as none, and is then no invalid one.
    for number, part in enumerate([*parts, *[[f"--include-operation-id={name}", "--seed=1"] for name in last]]):
        har = folder / f"har {number}.json"
        run = subprocess.run(
            [*command, str(har), "--no-color", *part], cwd=folder, capture_output=True, text=True, check=False
        )
        complaints += "" if run.returncode == 0 else run.stdout + run.stderr
        statuses |= _statuses(document, har)
    return complaints, statuses


def _fill(api: httpx2.Client) -> None:
    """Makes what has the numbers 1 to 4, accounts, and payments between them; and holds.

    The holds are between other accounts, because schemathesis blocks those. Those to void are on a frozen account: they
    cannot be captured.
    """
    for name in ("one", "two", "three"):
        open_account(api, f"agreement {name}", "1e9")
    open_account(api, "agreement rouble", "1e9", 2)
    payment = payment_body(1, 2)
    for _ in range(4):
        api.post("/payments", json=payment)
    frozen, payer, payee = (open_account(api, f"agreement {name}", "1e9") for name in ("frozen", "payer", "payee"))
    for buyer in [payer] * len(_CAPTURED) + [frozen] * len(_VOIDED):
        api.post("/holds", json=payment_body(buyer, payee))
    api.post(f"/account/{frozen}/status", json={"Status": "frozen"})


def _key(conninfo: str) -> str:
    """The secret of an API key with all scopes. Its ID is not one of those that are revoked first."""
    with psycopg.connect(conninfo) as connection:
        for number in range(1, 5):
            connection.execute("select wallet.create_api_key(%s, '{read}')", [f"agreement {number}"])
        connection.execute("select setval('ledger.api_key_id_seq', 987654321)")
        row = connection.execute(
            "select secret from wallet.create_api_key('agreement', '{read, pay, admin, keys}')"
        ).fetchone()
    assert row is not None
    return str(row[0])


def _closed(document: Node) -> Node:
    """The document, as strict as it can be: no fields and no refusals but those that it tells.

    Two things it tells only in words, for the sake of generated clients: that an amount may be a number, and that the
    text of a parameter is JSON. Here they are part of the schema, so that schemathesis tries such requests, and does
    not take them for invalid.
    """
    document = copy.deepcopy(document)
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        if "properties" in schema:
            schema["additionalProperties"] = False
        if name.endswith("Request"):
            for field in schema["properties"].values():
                _allow_numbers(field)
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                _allow_numbers(parameter["schema"])
                if "contentSchema" in parameter["schema"]:
                    schema = parameter.pop("schema")["contentSchema"]
                    parameter["content"] = {"application/json": {"schema": schema}}
            for status, response in operation["responses"].items():
                content = response["content"].get("application/json", {})
                if status != "200":
                    error = schemas[content["schema"]["$ref"].rpartition("/")[2]]
                    patterns = [_pattern(code, example) for code, example in content["examples"].items()]
                    said = {"type": "string", "pattern": "|".join(patterns)}
                    content["schema"] = error | {"properties": error["properties"] | {"Error": said}}
    return document


def _allow_numbers(schema: Node) -> None:
    if schema.get("format") == "decimal":
        types = schema["type"]
        schema["type"] = ["number", *(types if isinstance(types, list) else [types])]


def _pattern(code: str, example: Node) -> str:
    """The sentence of an example; of one that tells what was sent, any such sentence."""
    refusal = next(found for found in errors.registry() if found.code == code.partition(" ")[0])
    if refusal in _TELLS_WHAT_WAS_SENT:
        return f"^{'.*'.join(map(re.escape, errors.example(refusal).split('…')))}$"
    return f"^{re.escape(example['value']['Error'])}$"


_TELLS_WHAT_WAS_SENT = {
    refusals.BODY_ENCODED,
    refusals.BODY_NOT_JSON,
    refusals.BODY_NOT_UTF8,
    refusals.UNKNOWN_FIELD,
    refusals.UNKNOWN_PARAMETER,
    refusals.KEY_MISNAMED,
}


def _statuses(document: Node, har: Path) -> Statuses:
    """How often each operation was answered with each status."""
    paths = {
        re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))): methods
        for path, methods in document["paths"].items()
    }
    found: Statuses = defaultdict(Counter)
    for entry in json.loads(har.read_text())["log"]["entries"]:
        path = re.sub(r"^https?://[^/]+|[?#].*$", "", entry["request"]["url"])
        for pattern, methods in paths.items():
            operation = methods.get(entry["request"]["method"].lower())
            if operation is not None and pattern.fullmatch(path):
                found[operation["operationId"]][entry["response"]["status"]] += 1
                break
    return found


def main() -> int:
    """Returns the exit code: 0 all well, 1 if service and document disagree."""
    parser = argparse.ArgumentParser(prog="python -m tests.http.agreement", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="how long requests are made (600)")
    seconds = parser.parse_args().seconds
    with (
        tempfile.TemporaryDirectory(prefix="wallet-agreement-") as folder,
        embedded.running(Path(folder) / "postgres", None) as conninfo,
    ):
        migrations.migrate(conninfo)
        with serving(DATABASE_URL=conninfo) as server:
            found, statuses = disagreements(server.url, conninfo, Path(folder), "--max-time", str(seconds))
    print(found)
    for operation, counted in statuses.items():
        said = ", ".join(f"{number:,} times {status}" for status, number in sorted(counted.items()))
        print(f"{operation:<20} {said}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
