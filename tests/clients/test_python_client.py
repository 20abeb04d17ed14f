"""The Python client that openapi-python-client generates pays, and the programs of docs/clients.md work as printed."""

import contextlib
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.clients import DOCUMENT, programs
from tests.conftest import Connection
from tests.support import open_account, pay, serving


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the generated client, which can be imported meanwhile. A warning of the generator fails."""
    folder = tmp_path_factory.mktemp("client") / "wallet-client"
    command = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--fail-on-warning"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it formats its files with ruff
    done = subprocess.run(
        [*command, "--path", str(DOCUMENT), "--output-path", str(folder)],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


class Wallet:
    """The generated client, its operations by module and name."""

    def __init__(self, url: str, token: str = "") -> None:
        client = importlib.import_module("wallet_client")
        self.models: Any = importlib.import_module("wallet_client.models")
        self._client = client.AuthenticatedClient(url, token) if token else client.Client(url)

    def __enter__(self) -> "Wallet":
        self._client.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._client.__exit__(*raised)

    def __call__(self, operation: str, *arguments: object, **fields: object) -> Any:
        """The detailed response of an operation, such as payments.make_payment."""
        module = importlib.import_module(f"wallet_client.api.{operation}")
        return module.sync_detailed(*arguments, client=self._client, **fields)

    def open_account(self, name: str, amount: str = "0") -> int:
        """The ID of a new account, which is in the header Location."""
        body = self.models.CreateAccountRequest(name=name, currency_id=1, amount=amount)
        return int(self("accounts.create_account", body=body).headers["Location"].removeprefix("/account/"))

    def pay(self, buyer: int, seller: int, amount: str, **fields: object) -> Any:
        """The detailed response to a payment."""
        body = self.models.MakePaymentRequest(buyer_account_id=buyer, seller_account_id=seller, amount=amount)
        return self("payments.make_payment", body=body, **fields)


@pytest.fixture
def wallet(package: Path, database: str) -> Iterator[Wallet]:
    with serving(DATABASE_URL=database) as server, Wallet(server.url) as wallet:
        yield wallet


def test_it_pays_and_refunds(wallet: Wallet) -> None:
    buyer, seller = wallet.open_account("buyer", "10"), wallet.open_account("seller")
    payment = wallet.pay(buyer, seller, "0.3").parsed
    assert (type(payment), payment.amount, payment.buyer_account_id) == (wallet.models.Payment, "0.3", buyer)
    body = wallet.models.RefundPaymentRequest(amount="0.1")
    refund = wallet("payments.refund_payment", payment.id, body=body).parsed
    assert (refund.amount, refund.refunded_payment_id, refund.buyer_account_id) == ("0.1", payment.id, seller)
    found = wallet("accounts.get_account", buyer, details=True).parsed
    assert (Decimal(found.amount), found.status) == (Decimal("9.8"), wallet.models.AccountStatus.ACTIVE)


def test_a_repeated_payment_is_the_same_one(wallet: Wallet) -> None:
    buyer, seller = wallet.open_account("buyer", "10"), wallet.open_account("seller")
    first, second = (wallet.pay(buyer, seller, "6", idempotency_key="order 17") for _ in range(2))
    assert (second.status_code, second.parsed) == (200, first.parsed)
    assert (first.headers.get("Idempotency-Replayed"), second.headers["Idempotency-Replayed"]) == (None, "true")


def test_it_holds_and_captures(wallet: Wallet) -> None:
    buyer, seller = wallet.open_account("buyer", "10"), wallet.open_account("seller")
    metadata = wallet.models.Metadata.from_dict({"order": {"number": 17}})
    body = wallet.models.CreateHoldRequest(buyer, seller, "6", expires_in=60, metadata=metadata)
    hold = wallet("holds.create_hold", body=body).parsed
    assert (hold.status, hold.metadata["order"]) == ("open", {"number": 17})
    body = wallet.models.CaptureHoldRequest(amount="1.5", final=False)
    assert wallet("holds.capture_hold", hold.id, body=body).parsed.hold_id == hold.id
    assert wallet("holds.capture_hold", hold.id).parsed.amount == "4.5"
    held = wallet("holds.list_holds", status=wallet.models.HoldStatus.CAPTURED, metadata='{"order":{"number":17}}')
    assert [(found.id, found.captured_amount) for found in held.parsed.holds] == [(hold.id, "6")]


def test_it_reads_the_code_of_a_refusal(wallet: Wallet) -> None:
    buyer, seller = wallet.open_account("buyer"), wallet.open_account("seller")
    refused = wallet.pay(buyer, seller, "1")
    assert (refused.status_code, refused.headers["Error-Code"]) == (400, "WB006")
    assert refused.parsed == wallet.models.Error("Buyer account does not have sufficient balance")
    payments = [wallet.models.MakePaymentRequest(buyer, seller, "1"), wallet.models.MakePaymentRequest(buyer, 9, "1")]
    results = wallet("payments.make_payments", body=wallet.models.MakePaymentsRequest(payments)).parsed.results
    assert [result.code for result in results] == ["WB006", "WB004"]


def test_with_an_api_key_it_reads_what_without_one_it_may_not(package: Path, database: str, admin: Connection) -> None:
    [(secret,)] = admin.execute("select secret from wallet.create_api_key('shop', array['read'])").fetchall()
    with (
        serving(DATABASE_URL=database, WALLET_AUTH="required") as server,
        Wallet(server.url) as stranger,
        Wallet(server.url, secret) as shop,
    ):
        answers = [wallet("accounts.list_accounts") for wallet in (stranger, shop)]
    assert [(answer.status_code, answer.headers.get("Error-Code")) for answer in answers] == [
        (401, "WA002"),
        (200, None),
    ]


def test_types_show_that_an_amount_is_a_string_and_that_the_programs_are_sound(package: Path, tmp_path: Path) -> None:
    payer, pages = programs("python", "http://localhost:8080")
    (tmp_path / "pay.py").write_text(payer)
    (tmp_path / "pages.py").write_text(pages)
    wrong = "from wallet_client.models import MakePaymentRequest\nMakePaymentRequest(1, 2, 0.1)\n"
    (tmp_path / "wrong.py").write_text(wrong)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "pay.py", "pages.py", "wrong.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(package), "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert errors == [
        'wrong.py:2: error: Argument 3 to "MakePaymentRequest" has incompatible type "float"; expected "str"  [arg-type]'
    ], checked.stdout + checked.stderr


def printed(program: str, package: Path, folder: Path) -> list[str]:
    """The lines that a program prints."""
    environment = {"PYTHONPATH": str(package), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


Answer = tuple[int, bytes, dict[str, str]]
Forward = Callable[[], Answer]
# What happens to one try of a request: its answer, or None if the connection is cut.
Fault = Callable[[Forward], Answer | None]


def lost_request(forward: Forward) -> None:
    """It never arrives."""


def lost_answer(forward: Forward) -> None:
    forward()


def cut_answer(forward: Forward) -> Answer:
    status, body, headers = forward()
    return status, body[:9], headers


def bad_gateway(forward: Forward) -> Answer:
    forward()
    return 502, b"<html>", {"Content-Length": "6"}


def busy(forward: Forward) -> Answer:
    body = b'{"Error":"try again"}'
    return 503, body, {"Content-Length": str(len(body)), "Error-Code": "WU002", "Retry-After": "1"}


@contextlib.contextmanager
def network(api: httpx2.Client, faults: list[Fault]) -> Iterator[str]:
    """The URL of a network that forwards POST requests to the service; the first ones meet faults."""
    remaining = list(faults)

    class Network(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent = {"Idempotency-Key": self.headers["Idempotency-Key"]}

            def forward() -> Answer:
                answer = api.post(self.path, content=body, headers=sent)
                return answer.status_code, answer.content, dict(answer.headers)

            answer = remaining.pop(0)(forward) if remaining else forward()
            if answer is not None:
                status, content, headers = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Network) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
    assert not remaining


def test_the_program_pays_each_order_once_whatever_fails(package: Path, database: str, tmp_path: Path) -> None:
    with serving(DATABASE_URL=database) as server, server.client() as api:
        open_account(api, "buyer", 1000)
        open_account(api, "seller")
        with network(api, [lost_request, busy, lost_answer, cut_answer, bad_gateway]) as url:
            program, _ = programs("python", url)
            assert printed(program, package, tmp_path) == ["[('12.50', 'paid'), ('1000000', 'WB006')]"]
        assert [payment["Amount"] for payment in api.get("/payments").json()["Payments"]] == ["12.5"]


def test_the_program_does_not_take_a_refusal_for_final_while_an_earlier_try_is_under_way(
    package: Path, database: str, tmp_path: Path
) -> None:
    under_way: list[Forward] = []

    def delayed(forward: Forward) -> None:
        under_way.append(forward)

    with serving(DATABASE_URL=database) as server, server.client() as api:
        buyer, seller = open_account(api, "buyer"), open_account(api, "seller")
        world = open_account(api, "world", 3000000)

        def overtaking(forward: Forward) -> Answer:
            refusal = forward()
            assert refusal[0] == 400
            pay(api, world, buyer, 3000000)
            assert under_way.pop()()[0] == 200
            return refusal

        with network(api, [delayed, overtaking]) as url:
            program, _ = programs("python", url)
            assert printed(program, package, tmp_path) == ["[('12.50', 'paid'), ('1000000', 'paid')]"]
        paid = api.get("/payments", params={"seller": seller}).json()["Payments"]
        assert [payment["Amount"] for payment in paid] == ["12.5", "1000000"]


def test_an_order_that_could_not_be_paid_stays_open_with_its_key(package: Path, database: str, tmp_path: Path) -> None:
    nowhere, _ = programs("python", "http://127.0.0.1:9")
    nowhere = nowhere.replace("time.monotonic() + 120", "time.monotonic() + 0.1")
    *reasons, states = printed(nowhere, package, tmp_path)
    assert states == "[('12.50', 'open'), ('1000000', 'open')]"
    assert len(reasons) == 2
    assert all("No final answer" in reason and "Connection refused" in reason for reason in reasons)
    with serving(DATABASE_URL=database) as server, server.client() as api:
        open_account(api, "buyer", "2000000")
        open_account(api, "seller")
        later, _ = programs("python", server.url)
        later = later.replace("\n    add_order(", "\n    orders or add_order(")  # adds no more orders
        assert printed(later, package, tmp_path) == ["[('12.50', 'paid'), ('1000000', 'paid')]"]


@pytest.mark.parametrize("key", ["two\nlines", "ключ"])
def test_a_key_that_cannot_be_a_header_is_not_repeated(key: str, package: Path, tmp_path: Path) -> None:
    with httpx2.Client() as nobody, network(nobody, []) as url:
        program, _ = programs("python", url)
        program = program.replace("str(uuid.uuid4())", repr(key)).replace("time.sleep(", "raise SystemExit(")
        program = program.replace('    add_order(orders, buyer=1, seller=2, amount="1000000")\n', "")
        reason, states = printed(program, package, tmp_path)
    assert "LocalProtocolError" in reason or "UnicodeEncodeError" in reason
    assert states == "[('12.50', 'open')]"


def strange(status: int, body: bytes) -> Fault:
    return lambda _: (status, body, {"Content-Length": str(len(body))})


def test_an_answer_that_is_not_wallets_leaves_the_order_open(package: Path, tmp_path: Path) -> None:
    answers = [(403, b"<html>"), (404, b'{"Error":"no route"}'), (200, b""), (200, b"null"), (400, b"1"), (204, b"")]
    with httpx2.Client() as nobody, network(nobody, [strange(*answer) for answer in answers]) as url:
        program, _ = programs("python", url)
        assert printed(program, package, tmp_path)[-1] == "[('12.50', 'open'), ('1000000', 'open')]"
        *reasons, states = printed(program, package, tmp_path)  # it adds two orders more
    assert (len(reasons), states.count("open")) == (4, 4)


def test_the_program_reads_all_pages(package: Path, database: str, tmp_path: Path) -> None:
    with serving(DATABASE_URL=database) as server, server.client() as api:
        buyer, seller = open_account(api, "buyer", 1000), open_account(api, "seller")
        for amount in ("0.1", "0.2", "0.3", "0.4", "0.5"):
            pay(api, buyer, seller, amount)
        _, pages = programs("python", server.url)
        assert "limit=1000" in pages
        assert printed(pages.replace("limit=1000", "limit=2"), package, tmp_path) == [
            f"{number} 0.{number}" for number in (5, 4, 3, 2, 1)
        ]
