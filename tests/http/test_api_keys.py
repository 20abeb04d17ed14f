"""API keys are managed over HTTP by a key that may do so, and by no other client."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.conftest import Connection
from tests.sql.calls import row
from tests.support import account, assert_refused, serving


@pytest.fixture
def keyed(database: str, admin: Connection) -> Iterator[httpx2.Client]:
    """A client of a service that requires keys, with one that may manage keys."""
    secret = row(admin, "create_api_key", "office", ["read", "keys"])["secret"]
    with serving(DATABASE_URL=database, WALLET_AUTH="required") as server, server.client() as api:
        api.headers["Authorization"] = f"Bearer {secret}"
        yield api


def test_a_key_is_created_used_listed_and_revoked(keyed: httpx2.Client, admin: Connection) -> None:
    shop = account(admin, "shop", 5)
    asked = {
        "Name": "till",
        "Scopes": ["read"],
        "AccountIDs": [shop],
        "ExpiresAt": "2999-01-31T00:00:00Z",
        "Tenant": "t",
    }
    made = keyed.post("/keys", json=asked, headers={"Idempotency-Key": "till"}).json()
    assert made | {"ID": 0, "Secret": ""} == asked | {"ID": 0, "Secret": "", "ExpiresAt": "2999-01-31T00:00:00.000000Z"}
    again = keyed.post("/keys", json=asked, headers={"Idempotency-Key": "till"})
    assert (again.json(), again.headers["idempotency-replayed"]) == (
        {name: value for name, value in made.items() if name != "Secret"},
        "true",
    )
    used = {"Authorization": f"Bearer {made['Secret']}"}
    assert [found["ID"] for found in keyed.get("/accounts", headers=used).json()["Accounts"]] == [shop]
    office, till = keyed.get("/keys").json()["Keys"]
    assert (office["Name"], "AccountIDs" in office, "LastUsedAt" in office) == ("office", False, True)
    assert (till["AccountIDs"], till["Scopes"], till["CreatedBy"]) == (
        [shop],
        ["read"],
        "wallet_app, API key 1 (office)",
    )
    revoked = keyed.post(f"/key/{made['ID']}/revoke").json()
    assert revoked["RevokedBy"] == "wallet_app, API key 1 (office)"
    assert_refused(keyed.get("/accounts", headers=used), "WA001")


def test_what_a_key_cannot_pass_on(keyed: httpx2.Client) -> None:
    assert_refused(keyed.post("/keys", json={"Name": "till", "Scopes": ["pay"]}), "WF005")
    for scopes in ("read", {"read": True}, 7):
        assert keyed.post("/keys", json={"Name": "till", "Scopes": scopes}).headers["error-field"] == "Scopes"
    for accounts in ([1.5], ["1"], [2**63], [None], "1"):
        refused = keyed.post("/keys", json={"Name": "till", "Scopes": ["read"], "AccountIDs": accounts})
        assert (refused.status_code, refused.headers["error-field"]) == (400, "AccountIDs")
    for scope in (None, "re\0ad", 1):
        refused = keyed.post("/keys", json={"Name": "till", "Scopes": [scope]})
        assert (refused.status_code, refused.headers["error-field"]) == (400, "Scopes")
    assert len(keyed.get("/keys").json()["Keys"]) == 1


def test_a_service_that_requires_no_keys_hands_out_none(database: str, admin: Connection) -> None:
    key = {"Name": "till", "Scopes": ["read"]}
    with serving(DATABASE_URL=database) as server, server.client() as api:
        for method, path, body in (("GET", "/keys", None), ("POST", "/keys", key), ("POST", "/key/1/revoke", None)):
            assert_refused(api.request(method, path, json=body), "WA001")
        api.headers["Authorization"] = f"Bearer {row(admin, 'create_api_key', 'office', ['read', 'keys'])['secret']}"
        assert api.post("/keys", json=key).status_code == 200
