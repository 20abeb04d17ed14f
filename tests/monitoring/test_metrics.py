"""What the alerts and the dashboard ask for is what a running server tells."""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.conftest import Connection
from tests.http.test_batching import REPLACED
from tests.http.test_metrics import METERED, Metrics, scrape
from tests.monitoring.test_alerts import ALERTS, MONITORING
from tests.support import PROJECT, account, pay, serving, wait_until
from wallet_api.observability import log, metrics
from wallet_api.observability.record import Record
from wallet_api.observability.scraping import Processes

# Labels that Prometheus adds.
ADDED = {"instance", "job"}


class Wanted(NamedTuple):
    """A metric that is asked for, with labels that it has to have, and some with these values."""

    name: str
    labels: frozenset[str]
    values: frozenset[tuple[str, str]]

    def is_told(self, metrics: Metrics) -> bool:
        return any(
            name == self.name and labels >= self.values and {label for label, _ in labels} >= self.labels
            for name, labels in metrics
        )


def wanted(text: str) -> Iterator[Wanted]:
    """What a query asks for, and what its legend or its annotations show of it."""
    shown = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text))
    grouped = {label for group in re.findall(r"\bby \(([\w, ]+)\)", text) for label in group.split(", ")}
    for name, matchers in re.findall(r"\b((?:wallet|process)_\w+)(?:\{([^}]*)\})?", text):
        labels = {*grouped, *shown, *re.findall(r"(\w+)[=!]", matchers)} - ADDED
        values = {(label, value) for label, value in re.findall(r'(\w+)="([^"]*)"', matchers) if label not in ADDED}
        yield Wanted(name, frozenset(labels), frozenset(values))


PANELS = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
TARGETS = [f"{target['expr']} {target['legendFormat']}" for panel in PANELS for target in panel["targets"]]
WANTED = {one for text in [*ALERTS.values(), *TARGETS] for one in wanted(text)}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_each_that_is_asked_for_is_told(admin: Connection, database: str, workers: str) -> None:
    admin.execute("select wallet.record_ledger_check(0)")
    admin.execute("create sequence public.attempt")
    conflict = "if nextval('public.attempt') = 1 then raise exception using errcode = '40001'; end if;"
    admin.execute(REPLACED.format(body=conflict))
    pair = account(admin, "buyer", 10), account(admin, "seller")
    with serving(DATABASE_URL=database, WEB_CONCURRENCY=workers, **METERED) as server, server.client() as api:
        assert pay(api, *pair, 1).status_code == 200
        assert pay(api, *pair, 100).status_code == 400
        assert api.get("/accounts").status_code == 200
        missing = WANTED

        def all_told() -> bool:
            nonlocal missing
            told = scrape(server)
            missing = {one for one in WANTED if not one.is_told(told)}
            return missing == set()

        try:
            wait_until(all_told)
        except AssertionError:
            raise AssertionError(f"no metric has the name {missing}") from None


def test_all_queries_are_found() -> None:
    assert len(TARGETS) > 20
    assert {one.name for text in ALERTS.values() for one in wanted(text)} >= {
        "wallet_requests_total",
        "wallet_request_duration_seconds_bucket",
        "wallet_ledger_check_problems",
    }
    [refusals] = wanted('sum by (code) (rate(wallet_payments_total{outcome="refused"}[2m])) {{code}}')
    assert refusals == Wanted(
        "wallet_payments_total", frozenset({"code", "outcome"}), frozenset({("outcome", "refused")})
    )


def test_the_documentation_says_what_each_metric_and_each_field_of_the_log_is() -> None:
    document = (PROJECT / "docs/operations.md").read_text()
    told = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in metrics.REGISTRY.collect()
    }
    told |= {sample.name for metric in Processes().collect() for sample in metric.samples}
    rows = "".join(re.findall(r"^\| `(?:wallet|process)_.*", document, re.MULTILINE))
    assert set(re.findall(r"`((?:wallet|process)_[a-z_]+)`", rows)) == told
    record = Record("id", "client", "GET", "/path")
    record.status, record.waited, record.database, record.batch = 200, 1, 1, 1
    record.code, record.payment_id, record.key = "WB006", "1", "shop"
    fields = json.loads(log._request("2026-11-23T00:00:00.000Z", record))
    assert {name for name in fields if f"`{name}`" not in document} == set()
