"""Lists with a limit are pages: walked by their links, they are the whole list. Filters narrow both."""

import itertools
import json
import re
import urllib.parse
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from tests.conftest import Connection
from tests.support import account, assert_refused, open_account, pay, payment_body, serving

Row = dict[str, Any]
_names = (f"pages {number}" for number in itertools.count())


def rows(response: httpx2.Response) -> list[Row]:
    """What a list has, whatever its name."""
    assert response.status_code == 200, response.text
    found: list[list[Row]] = [value for value in response.json().values() if isinstance(value, list)]
    return found[0] if found else []


def linked(response: httpx2.Response) -> dict[str, str]:
    """The URLs of the pages beside a page, as its Link has them: next, prev."""
    link = response.headers.get("link")
    if link is None:
        return {}
    found = [re.fullmatch('<([^>]+)>; rel="(next|prev)"', part) for part in link.split(", ")]
    assert None not in found, link
    urls = {match[2]: match[1] for match in found if match is not None}
    assert list(urls) in (["next"], ["prev"], ["next", "prev"])
    return urls


def next_page(response: httpx2.Response) -> str | None:
    return linked(response).get("next")


def walk(api: httpx2.Client, path: str, to: str = "next") -> list[list[Row]]:
    """All pages, from one link to the next, or to the previous one."""
    pages = []
    url: str | None = path
    while url is not None:
        response = api.get(url)
        pages.append(rows(response))
        url = linked(response).get(to)
    return pages


@pytest.fixture(scope="module")
def pair(api: httpx2.Client) -> tuple[int, int]:
    """Two accounts, and twelve payments of 1 to 12 from the first to the second; every third one has a reference."""
    buyer, seller = (open_account(api, next(_names), 1000) for _ in range(2))
    for amount in range(1, 13):
        texts = {"Reference": f"pages {buyer}", "Description": f"payment {amount}"} if amount % 3 == 0 else {}
        assert pay(api, buyer, seller, amount, **texts).status_code == 200
    return buyer, seller


@pytest.fixture(scope="module")
def paths(api: httpx2.Client, pair: tuple[int, int]) -> list[str]:
    """Lists of twelve rows."""
    buyer, seller = pair
    changes = f"/account/{open_account(api, next(_names))}/changes?"
    for limit in range(1, 12):
        assert api.post(changes.replace("changes?", "credit-limit"), json={"Amount": limit}).status_code == 200
    return [f"/payments?account={buyer}", f"/payments?seller={seller}&min=1", f"/account/{buyer}/statement?", changes]


@pytest.mark.parametrize("limit", [1, 5, 11, 12, 13, 1000])
def test_pages_are_the_whole_list_and_the_last_one_has_no_link(
    api: httpx2.Client, paths: list[str], limit: int
) -> None:
    for path in paths:
        whole = rows(api.get(path))
        assert len(whole) == 12
        pages = walk(api, f"{path}&limit={limit}")
        assert [len(page) for page in pages] == [len(whole[n : n + limit]) for n in range(0, 12, limit)]
        assert [row for page in pages for row in page] == whole


@pytest.mark.parametrize("limit", [1, 5, 11, 12, 13])
@pytest.mark.parametrize("order", ["", "&order=desc"])
def test_the_links_lead_back_too(api: httpx2.Client, paths: list[str], limit: int, order: str) -> None:
    for path in paths:
        whole = rows(api.get(f"{path}{order}"))
        assert whole == rows(api.get(path))[:: -1 if order else 1]
        url = f"{path}{order}&limit={limit}"
        forth = walk(api, url)
        assert [row for page in forth for row in page] == whole
        last = whole[-1].get("ID", whole[-1].get("PaymentID"))
        back = walk(api, f"{url}&before={last}", "prev")
        assert [row for page in back[::-1] for row in page] == whole[:-1]
        # To the third page and back is the second.
        pages = [api.get(url)]
        while len(pages) < 3 and (follows := next_page(pages[-1])):
            pages.append(api.get(follows))
        assert ["prev" in linked(page) for page in pages] == [False, True, True][: len(pages)]
        if len(pages) == 3:
            again = api.get(linked(pages[2])["prev"])
            assert rows(again) == rows(pages[1])
            assert rows(api.get(linked(again)["next"])) == rows(pages[2])
            assert rows(api.get(linked(again)["prev"])) == rows(pages[0])
            assert "prev" not in linked(api.get(linked(again)["prev"]))


def test_links_of_pages_that_both_cursors_bound_and_of_those_at_the_ends(
    api: httpx2.Client, pair: tuple[int, int]
) -> None:
    path = f"/payments?account={pair[0]}&limit=2"
    ids = [row["ID"] for row in rows(api.get(path.replace("&limit=2", "")))]
    page = api.get(f"{path}&before={ids[4]}&after={ids[0]}")
    assert [row["ID"] for row in rows(page)] == ids[1:3]
    assert linked(page) == {"next": f"{path}&before={ids[4]}&after={ids[2]}"}
    assert ([row["ID"] for row in rows(api.get(linked(page)["next"]))], linked(api.get(linked(page)["next"]))) == (
        ids[3:4], {},
    )  # fmt: skip
    # Nothing is before the first row: it begins the list, and the next page is the first one.
    page = api.get(f"{path}&before={ids[0]}")
    assert (page.text, linked(page)) == ("{}", {"next": path})
    page = api.get(f"{path}&after={ids[-1]}")
    assert (page.text, linked(page)) == ("{}", {})
    page = api.get(f"{path}&before={ids[1]}&order=desc")
    assert linked(page) == {
        "next": f"{path}&order=desc&after={ids[2]}",
        "prev": f"{path}&order=desc&before={ids[3]}",
    }


def test_before_without_a_limit_is_refused_unless_it_is_told_where_to_begin(
    api: httpx2.Client, paths: list[str]
) -> None:
    for path in paths:
        whole = rows(api.get(path))
        fifth = whole[4].get("ID", whole[4].get("PaymentID"))
        assert_refused(api.get(f"{path}&before={fifth}"), "WB065")
        assert api.get(f"{path}&before={fifth}").headers["error-field"] == "before"
        assert rows(api.get(f"{path}&after=0&before={fifth}")) == whole[:4]
        assert rows(api.get(f"{path}&order=desc&after={fifth}")) == whole[3::-1]


def test_after_without_a_limit_is_the_rest(api: httpx2.Client, paths: list[str]) -> None:
    for path in paths:
        whole = rows(api.get(path))
        response = api.get(f"{path}&after={whole[4].get('ID', whole[4].get('PaymentID'))}")
        assert rows(response) == whole[5:]
        assert "link" not in response.headers


def test_a_link_is_the_same_url_but_for_after(api: httpx2.Client, pair: tuple[int, int]) -> None:
    reference = urllib.parse.quote(f"pages {pair[0]}")
    first = api.get(f"/payments?LIMIT=2&After=0&reference={reference}&MAX=1%32&after=1")
    link = next_page(first)
    assert link == f"/payments?LIMIT=2&reference={reference}&MAX=1%32&after={rows(first)[-1]['ID']}"
    assert [row["Amount"] for row in rows(api.get(link))] == ["9", "12"]
    assert api.get(f"/account/%2B0{pair[0]}/statement?limit=1").headers["link"].startswith(f"</account/{pair[0]}/stat")


def test_head_has_the_link_too(api: httpx2.Client, paths: list[str]) -> None:
    response = api.head(f"{paths[0]}&limit=1")
    assert (response.status_code, response.content) == (200, b"")
    assert next_page(response)


def test_a_list_of_nothing(api: httpx2.Client) -> None:
    empty = open_account(api, next(_names))
    for query in ("", "&limit=5", "&after=3"):
        response = api.get(f"/payments?account={empty}{query}")
        assert (response.text, "link" in response.headers) == ("{}", False)
        statement = api.get(f"/account/{empty}/statement?{query}")
        assert statement.text == f'{{"AccountID":{empty},"OpeningAmount":"0","Lines":[]}}'
    assert api.get("/accounts?name=no account has this name").text == "{}"


def moment(api: httpx2.Client, path: str, number: int) -> str:
    return str(rows(api.get(path))[number]["OperationTimestamp"])


def test_payments_that_are_searched_for(api: httpx2.Client, pair: tuple[int, int]) -> None:
    buyer, seller = pair
    fifth, ninth = (moment(api, f"/payments?account={buyer}", number) for number in (4, 8))
    # the plus sign is a blank by the time it arrives
    elsewhere = datetime.fromisoformat(fifth).astimezone(timezone(timedelta(hours=2))).isoformat()
    assert elsewhere.endswith("+02:00")
    for query, amounts in {
        f"buyer={buyer}": range(1, 13),
        f"buyer={seller}": [],
        f"seller={seller}": range(1, 13),
        f"account={seller}&min=3&max=5.0": [3, 4, 5],
        f"buyer={buyer}&min=1e1": [10, 11, 12],
        f"buyer={buyer}&from={fifth}&to={ninth}": [5, 6, 7, 8],
        f"buyer={buyer}&from={elsewhere}": range(5, 13),
        f"from={fifth}&buyer={buyer}&to={fifth}": [],
        f"reference=pages {buyer}": [3, 6, 9, 12],
        f"reference=pages {buyer}&currency=USD&max=6": [3, 6],
        f"reference=pages {buyer}&currency=1": [3, 6, 9, 12],
        f"reference=pages {buyer}&currency=RUB": [],
        f"BUYER=0&Buyer={buyer}&max=2": [1, 2],
    }.items():
        for limit in ("", "&limit=1000"):
            found = rows(api.get(f"/payments?{query}{limit}"))
            assert [row["Amount"] for row in found] == [str(amount) for amount in amounts], query


def test_what_a_payment_has_is_shown_and_what_it_has_not_is_left_out(api: httpx2.Client, pair: tuple[int, int]) -> None:
    first, _, third, *_ = rows(api.get(f"/payments?account={pair[0]}"))
    fields = ["ID", "CurrencyID", "CurrencyName", "Amount", "BuyerAccountID", "SellerAccountID", "OperationTimestamp"]
    assert list(first) == fields
    assert list(third) == [*fields, "Description", "Reference"]
    assert (third["Description"], third["Reference"]) == ("payment 3", f"pages {pair[0]}")
    assert api.get(f"/payment/{third['ID']}").json() == third


def test_accounts_that_are_searched_for(api: httpx2.Client) -> None:
    prefix = next(_names)
    ids = [
        open_account(api, f"{prefix} {letter}", 1, currency)
        for letter, currency in zip("aAb%", (1, 1, 2, 1), strict=True)
    ]
    assert api.post(f"/account/{ids[1]}/status", json={"Status": "frozen"}).status_code == 200
    all_accounts = f"name_prefix={urllib.parse.quote(prefix + ' ')}"
    for query, found in {
        all_accounts: ids,
        f"name={prefix} a": ids[:1],
        f"name={prefix}": [],
        f"name_prefix={urllib.parse.quote(prefix + ' %')}": ids[3:],
        f"{all_accounts}&currency=RUB": ids[2:3],
        f"{all_accounts}&currency=1": [ids[0], ids[1], ids[3]],
        f"{all_accounts}&status=frozen": ids[1:2],
        f"{all_accounts}&status=closed": [],
        f"{all_accounts}&after={ids[1]}": ids[2:],
    }.items():
        assert [row["ID"] for row in rows(api.get(f"/accounts?{query}"))] == found, query
        assert [row["ID"] for page in walk(api, f"/accounts?{query}&limit=1") for row in page] == found, query


def test_details_of_accounts_are_shown_on_request(api: httpx2.Client, pair: tuple[int, int]) -> None:
    brief = api.get(f"/account/{pair[0]}").json()
    assert list(brief) == ["ID", "Name", "CurrencyID", "CurrencyName", "Amount"]
    detailed = brief | {"Status": "active", "Held": "0", "Available": brief["Amount"], "CreditLimit": "0"}
    for query, expected in {"details=true": detailed, "details=false": brief}.items():
        assert list(api.get(f"/account/{pair[0]}?{query}").json().items()) == list(expected.items())
        assert rows(api.get(f"/accounts?name={brief['Name']}&{query}")) == [expected]


def test_the_captures_of_a_hold(api: httpx2.Client) -> None:
    buyer, seller = (open_account(api, next(_names), 100) for _ in range(2))
    holds = [api.post("/holds", json=payment_body(buyer, seller, 5)).json()["ID"] for _ in range(2)]
    captured = api.post(f"/hold/{holds[0]}/capture", json={"Amount": 2}).json()
    for query in (f"hold={holds[0]}", f"Hold={holds[0]}&buyer={buyer}&min=2", f"hold={holds[0]}&limit=5&order=desc"):
        assert [row["ID"] for row in rows(api.get(f"/payments?{query}"))] == [captured["ID"]]
    for query in (f"hold={holds[1]}", f"hold={holds[0]}&min=3", "hold=0", f"hold={2**63 - 1}"):
        assert api.get(f"/payments?{query}").text == "{}"


def test_a_search_that_takes_long_goes_on_from_page_to_page(admin: Connection, database: str) -> None:
    """A page looks at 10,000 payments where its filter narrows what an index gives. Its end may be no payment."""
    buyer, seller = account(admin, "buyer", 10**9), account(admin, "seller")
    for amount, number in ((1, 12_345), (7, 3), (1, 20_000), (7, 2)):
        admin.execute(
            """select count(*) from wallet.make_payments(
                   array_fill(%s::bigint, array[%s]), array_fill(%s::bigint, array[%s]), array_fill(%s::numeric, array[%s]))""",
            [buyer, number, seller, number, amount, number],
        )
    expected = [*range(12_346, 12_349), 32_349, 32_350]
    with serving(DATABASE_URL=database) as server, server.client() as api:
        pages = walk(api, "/payments?min=7&limit=2")
        assert [] in pages
        assert [row["ID"] for page in pages for row in page] == expected
        assert [row["ID"] for row in rows(api.get("/payments?min=7"))] == expected
        assert [row["ID"] for row in rows(api.get("/payments?min=7&order=desc"))] == expected[::-1]
        for order, found in (("asc", expected), ("desc", expected[::-1])):
            path = f"/payments?min=7&limit=2&order={order}"
            assert [row["ID"] for page in walk(api, path) for row in page] == found
            back = walk(api, f"{path}&before={2**63 - 1 if order == 'asc' else 0}", "prev")
            assert [] in back
            assert [row["ID"] for page in back[::-1] for row in page] == found
            # From an empty page, too, the links lead in both directions.
            url, before = f"{path}&after={found[0]}", 1
            while page := rows(response := api.get(url)):
                url, before = linked(response)["next"], before + len(page)
            onward, back = walk(api, linked(response)["next"]), walk(api, linked(response)["prev"], "prev")
            assert [row["ID"] for page in onward for row in page] == found[before:]
            assert [row["ID"] for page in back[::-1] for row in page] == found[:before]
        assert api.get("/payments?min=8").text == "{}"
        assert api.get("/payments?min=8&limit=5").text == "{}"
        assert len(json.loads(api.get("/payments?max=1").content)["Payments"]) == 32_345


def test_holds_that_are_searched_for(api: httpx2.Client) -> None:
    buyer, seller = (open_account(api, next(_names), 1000) for _ in range(2))
    reference = f"pages {buyer}"
    ids = []
    for number in range(1, 8):
        terms = {"Reference": reference, "Description": "every third"} if number % 3 == 0 else {}
        body = payment_body(buyer, seller, number, ExpiresIn=60 if number == 4 else 86_400, **terms)
        ids.append(api.post("/holds", json=body).json()["ID"])
    assert api.post(f"/hold/{ids[1]}/capture", json={"Amount": "0.5"}).status_code == 200
    assert api.post(f"/hold/{ids[2]}/void").status_code == 200
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+", "%2B")
    for query, numbers in {
        f"account={buyer}": range(1, 8),
        f"account={seller}": range(1, 8),
        f"account={buyer}&status=open": [1, 4, 5, 6, 7],
        f"account={seller}&status=captured": [2],
        f"STATUS=voided&Account={seller}": [3],
        f"account={buyer}&status=expired": [],
        f"reference={reference}": [3, 6],
        f"reference={reference}&status=open": [6],
        f"reference={reference}&account={10**18}": [],
        f"account={buyer}&expires_before={soon}": [4],
        f"account={buyer}&after={ids[4]}": [6, 7],
        f"account={buyer}&status=open&after={ids[4]}": [6, 7],
    }.items():
        expected = [api.get(f"/hold/{ids[number - 1]}").json() for number in numbers]
        assert api.get(f"/holds?{query}").text == (
            json.dumps({"Holds": expected}, separators=(",", ":")) if expected else "{}"
        )
        for limit in (1, 3, 1000):
            assert [row for page in walk(api, f"/holds?{query}&limit={limit}") for row in page] == expected, query
    listed = rows(api.get(f"/holds?account={buyer}"))
    assert (listed[1]["Status"], listed[1]["CapturedAmount"], "Reference" in listed[1]) == ("captured", "0.5", False)
    assert (listed[5]["Reference"], listed[5]["Description"]) == (reference, "every third")


def test_a_long_list_of_holds_is_streamed_and_a_search_in_it_goes_on_from_page_to_page(
    admin: Connection, database: str
) -> None:
    buyer, seller = account(admin, "buyer", 10**9), account(admin, "seller")
    admin.execute(
        """insert into ledger.hold (currency_id, buyer_account_id, seller_account_id, amount, expires_at)
           select 1, %s, %s, 1, clock_timestamp() + interval '1 day' from generate_series(1, 10500)""",
        [buyer, seller],
    )
    with serving(DATABASE_URL=database) as server, server.client() as api:
        response = api.get("/holds")
        assert response.headers["transfer-encoding"] == "chunked"
        assert [row["ID"] for row in rows(response)] == list(range(1, 10_501))
        assert [len(page) for page in walk(api, f"/holds?account={seller}&status=open&limit=1000")] == [1000] * 10 + [
            500
        ]
        assert api.get("/holds?expires_before=2000-01-01T00:00:00Z").text == "{}"
        assert walk(api, "/holds?expires_before=2000-01-01T00:00:00Z&limit=5") == [[], []]


WRONG_INTEGERS = [
    "abc",
    "",
    "1.5",
    "1e3",
    "9223372036854775808",
    "-9223372036854775809",
    "1%00",
    "%D9%A1",
    "1_0",
    "0x1",
    "+1",
    "true",
]
WRONG_MOMENTS = [
    "", "now", "2019-06-13", "2019-06-13T03:21:29", "2019-06-13 03:21:29", "2019-02-30T00:00:00Z", "2019-06-13T24:00:00Z",
    "0000-01-01T00:00:00Z", "2019-06-13T03:21Z", "2019-06-13T03:21:61Z", "2019-06-13T03:21:29%2B16:00", "2019-06-13T03:21:29%2B02:60",
    "2019-06-13T03:21:29Z%00", "2019-06-13T03:21:29.Z", "infinity", "2019-13-01T00:00:00Z", "10000-01-01T00:00:00Z",
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "code", "field"),
    [
        (f"/payments?{name}={text}", "WH031", name)
        for name in ("limit", "after", "before", "account", "refunded", "hold")
        for text in WRONG_INTEGERS
    ]
    + [(f"/payments?from={text}", "WH036", "from") for text in WRONG_MOMENTS]
    + [(f"/holds?{name}={text}", "WH031", name) for name in ("limit", "after", "account") for text in ("1.5", "")]
    + [(f"/holds?expires_before={text}", "WH036", "expires_before") for text in WRONG_MOMENTS]
    + [(f"/holds?status={text}", "WB036", "") for text in ("", "Open", "active", "open%20")]
    + [(f"/payments?min={text}", "WB062", "") for text in ("abc", "", "1e99", "NaN", "1%00")]
    + [(f"/accounts?details={text}", "WH035", "details") for text in ("maybe", "", "1", "TRUE", "true%00")]
    + [
        ("/payments?limit=0", "WB061", ""),
        ("/payments?order=up", "WB064", ""),
        ("/payments?order=", "WB064", ""),
        ("/accounts?order=DESC&limit=5", "WB064", ""),
        ("/holds?order=asc%00", "WH033", "order"),
        ("/holds?before=5", "WB065", ""),
        ("/payments?limit=1001", "WB061", ""),
        ("/accounts?limit=-1", "WB061", ""),
        ("/holds?limit=0", "WB061", ""),
        ("/holds?limit=1001", "WB061", ""),
        ("/holds?status=a%00b", "WH033", "status"),
        ("/holds?reference=a%00b", "WH033", "reference"),
        ("/account/1/statement?limit=0", "WB061", ""),
        ("/account/1/changes?limit=0", "WB061", ""),
        ("/payment/1?made_by=1", "WH035", "made_by"),
        ("/account/1/statement?to=x", "WH036", "to"),
        ("/account/1?at=x", "WH036", "at"),
        ("/payments?currency=XXX", "WB013", ""),
        ("/accounts?currency=", "WB013", ""),
        ("/accounts?status=open", "WB041", ""),
        ("/accounts?name=%00", "WH033", "name"),
        ("/payments?reference=a%00b", "WH033", "reference"),
        ("/payments?reference=%FF", "WH023", ""),
        ("/payments?other=%ED%A0%80", "WH023", ""),
        ("/account/x/statement", "WH031", "The ID in the URL"),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_read_is_named(api: httpx2.Client, path: str, code: str, field: str) -> None:
    assert_refused(api.get(path), code, field=field)


@pytest.mark.parametrize(
    "text",
    [
        "2019-06-13T03:21:29Z",
        "2019-06-13t03:21:29.9z",
        "2019-06-13T03:21:29.933672999999999999999999999Z",
        "2019-06-13T03:21:29%2B02:00",
        "2019-06-13T03:21:29+02:00",
        "2019-06-13T03:21:29-15:59",
        "2016-12-31T23:59:60Z",
        "0001-01-01T00:00:00%2B15:00",
        "9999-12-31T23:59:59.999999999-15:59",
        "2020-02-29 00:00:00Z",
    ],
)
def test_a_moment_may_be_written_in_many_ways(api: httpx2.Client, pair: tuple[int, int], text: str) -> None:
    for path in (f"/payments?buyer={pair[0]}&from=", f"/account/{pair[0]}/statement?to=", f"/account/{pair[0]}?at="):
        assert api.get(path + text).status_code == 200


def test_an_unknown_account_has_no_statement(api: httpx2.Client) -> None:
    for query in ("", "?limit=5"):
        assert_refused(api.get(f"/account/{10**18}/statement{query}"), "WN001")


def test_a_statement_goes_from_balance_to_balance(api: httpx2.Client, pair: tuple[int, int]) -> None:
    buyer, seller = pair
    statement = api.get(f"/account/{buyer}/statement").json()
    assert list(statement) == ["AccountID", "OpeningAmount", "Lines"]
    assert (statement["AccountID"], statement["OpeningAmount"]) == (buyer, "1000")
    name = api.get(f"/account/{seller}").json()["Name"]
    balances = itertools.accumulate(range(1, 13), lambda balance, amount: balance - amount, initial=1000)
    for line, balance, amount in zip(statement["Lines"], list(balances)[1:], range(1, 13), strict=True):
        assert (line["Balance"], line["Amount"], line["CounterpartyName"]) == (str(balance), f"-{amount}", name)
    assert list(statement["Lines"][0]) == [
        "PaymentID",
        "CounterpartyAccountID",
        "CounterpartyName",
        "Amount",
        "Balance",
        "OperationTimestamp",
    ]
    assert [line["Amount"] for line in rows(api.get(f"/account/{seller}/statement"))] == [str(n) for n in range(1, 13)]


def test_each_page_of_a_statement_opens_with_what_was_left_before_it(api: httpx2.Client, pair: tuple[int, int]) -> None:
    opening, url = "1000", f"/account/{pair[0]}/statement?limit=5"
    for _ in range(3):
        response = api.get(url)
        assert response.json()["OpeningAmount"] == opening
        opening = response.json()["Lines"][-1]["Balance"]
        url = next_page(response) or url
    third, sixth = (moment(api, f"/payments?account={pair[0]}", number) for number in (2, 5))
    part = api.get(f"/account/{pair[0]}/statement?from={third}&to={sixth}").json()
    assert (part["OpeningAmount"], [line["Amount"] for line in part["Lines"]]) == ("997", ["-3", "-4", "-5"])
    assert api.get(f"/account/{pair[0]}?at={third}").json()["Amount"] == "994"
    assert "Status" not in api.get(f"/account/{pair[0]}?at={third}&details=true").json()


def test_newest_first_a_statement_opens_with_what_was_left_before_its_oldest_line(
    api: httpx2.Client, pair: tuple[int, int]
) -> None:
    url: str | None = f"/account/{pair[0]}/statement?limit=5&order=desc"
    openings = []
    while url is not None:
        response = api.get(url)
        statement = response.json()
        assert list(statement) == ["AccountID", "Lines", "OpeningAmount"]
        balance = Decimal(statement["OpeningAmount"])
        for line in reversed(statement["Lines"]):
            balance += Decimal(line["Amount"])
            assert Decimal(line["Balance"]) == balance
        openings.append(statement["OpeningAmount"])
        url = next_page(response)
    assert openings == ["972", "997", "1000"]


def test_a_long_statement_is_one_statement(admin: Connection, database: str) -> None:
    """Written page by page, its opening stands once."""
    buyer, seller = account(admin, "buyer", 10_000), account(admin, "seller")
    admin.execute(
        """select count(*) from wallet.make_payments(array_fill(%s::bigint, array[2500]),
               array_fill(%s::bigint, array[2500]), array_fill(1::numeric, array[2500]))""",
        [buyer, seller],
    )
    with serving(DATABASE_URL=database) as server, server.client() as api:
        response = api.get(f"/account/{buyer}/statement")
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.json()["OpeningAmount"] == "10000"
        assert [line["Balance"] for line in response.json()["Lines"]] == [str(10_000 - n) for n in range(1, 2501)]
        pages = walk(api, f"/account/{buyer}/statement?limit=1000")
        assert [len(page) for page in pages] == [1000, 1000, 500]
        assert [line for page in pages for line in page] == response.json()["Lines"]
        newest = api.get(f"/account/{buyer}/statement?order=desc")
        assert newest.headers["transfer-encoding"] == "chunked"
        assert list(newest.json()) == ["AccountID", "Lines", "OpeningAmount"]
        assert newest.json()["OpeningAmount"] == "10000"
        assert newest.json()["Lines"] == response.json()["Lines"][::-1]
