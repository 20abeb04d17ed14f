"""The alerts that are shipped: each fires when it should, and alone; none on a day like any other."""

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.support import PROJECT

MONITORING = PROJECT / "deploy/monitoring"
RULES = (MONITORING / "alerts.yml").read_text()
ALERTS = dict(re.findall(r"- alert: (\w+)\n(.*?)(?=\n *- alert:|\Z)", RULES, re.DOTALL))

# Series as promtool writes them, a value each 15 s: from zero, so much more each time, for four hours.
HOURS = 4
STEPS = HOURS * 240


def steady(rise: float = 0, start: float = 0) -> str:
    return f"{start}+{rise}x{STEPS}"


# A busy day: 100 payments a second, some of them refused, some repeated; a queue for a moment; and probes.
HEALTHY = {
    'up{job="wallet",instance="one"}': steady(start=1),
    'up{job="wallet",instance="two"}': steady(start=1),
    'wallet_database_up{instance="one"}': steady(start=1),
    'wallet_database_up{instance="two"}': steady(start=1),
    'wallet_database_writable{instance="one"}': steady(start=1),
    'wallet_database_writable{instance="two"}': steady(start=1),
    'wallet_requests_total{route="/payments",status="200"}': steady(1500),
    'wallet_requests_total{route="/payments",status="503"}': steady(14),
    'wallet_requests_total{route="/readyz",status="503"}': steady(150),
    'wallet_request_duration_seconds_bucket{route="/payments",method="POST",le="0.1"}': steady(1490),
    'wallet_request_duration_seconds_bucket{route="/payments",method="POST",le="0.2"}': steady(1500),
    'wallet_request_duration_seconds_bucket{route="/payments",method="POST",le="0.5"}': steady(1514),
    'wallet_request_duration_seconds_bucket{route="/payments",method="POST",le="+Inf"}': steady(1514),
    'wallet_retries_total{sqlstate="40P01"}': steady(14),
    "wallet_queue_full_total": f"0x400 500x{STEPS - 401}",
    'wallet_pool_waiting{pool="calls"}': f"0x400 9 9 9 0x{STEPS - 404}",
    'wallet_lock_wait_seconds_bucket{le="0.1"}': steady(95),
    'wallet_lock_wait_seconds_bucket{le="1"}': steady(97),
    'wallet_lock_wait_seconds_bucket{le="5"}': steady(100),
    'wallet_lock_wait_seconds_bucket{le="+Inf"}': steady(100),
    "wallet_ledger_check_problems": steady(),
    "wallet_ledger_check_timestamp_seconds": steady(15),
}


def contradicted(tmp_path: Path, series: dict[str, str], fire: dict[str, list[str]]) -> str:
    """What promtool says when told that these alerts, and no others, fire at these moments; nothing if that is so."""
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    expected = [
        {
            "expr": query,
            "eval_time": moment,
            "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts],
        }
        for moment, alerts in fire.items()
    ]
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": expected,
    }
    file = tmp_path / "test.json"
    file.write_text(
        json.dumps({"rule_files": [str(MONITORING / "alerts.yml")], "evaluation_interval": "15s", "tests": [test]})
    )
    done = promtool("test", "rules", str(file))
    return "" if done.returncode == 0 else done.stdout + done.stderr


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert shutil.which("promtool"), "promtool is missing: apt-get install prometheus"
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", [("config", "prometheus.yml"), ("rules", "alerts.yml")])
def test_promtool_finds_nothing_wrong(what: tuple[str, str]) -> None:
    kind, file = what
    done = promtool("check", kind, "--lint-fatal" if kind == "rules" else "--syntax-only", str(MONITORING / file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_on_a_day_like_any_other_none_fires(tmp_path: Path) -> None:
    moments = ("3m", "1h41m", "1h45m", f"{HOURS}h")
    assert contradicted(tmp_path, HEALTHY, {moment: [] for moment in moments}) == ""


UP = ['up{job="wallet",instance="one"}', 'up{job="wallet",instance="two"}']
DATABASE_UP = ['wallet_database_up{instance="one"}', 'wallet_database_up{instance="two"}']
WRITABLE = ['wallet_database_writable{instance="one"}', 'wallet_database_writable{instance="two"}']

# What is so from the first moment on; when it is not worth an alert yet, and when it is.
CASES = [
    ("WalletNoInstance", dict.fromkeys(UP), "45s", "1m15s"),
    ("WalletInstanceDown", {UP[1]: steady()}, "1m45s", "2m15s"),
    ("WalletDatabaseDown", dict.fromkeys([*DATABASE_UP, *WRITABLE], steady()), "15s", "45s"),
    ("WalletNoPrimary", dict.fromkeys(WRITABLE, steady()), "15s", "45s"),
    ("WalletErrors", {'wallet_requests_total{route="/payments",status="503"}': steady(16)}, "5m", "6m"),
    ("WalletErrors", {'wallet_requests_total{route="/accounts",status="500"}': steady(2)}, "5m", "6m"),
    ("WalletSlow", {'wallet_request_duration_seconds_bucket{route="/payments",method="POST",le="0.5"}': steady(1516),
                    'wallet_request_duration_seconds_bucket{route="/payments",method="POST",le="+Inf"}': steady(1516)}, "10m", "11m"),
    ("WalletRetries", {'wallet_retries_total{sqlstate="08006"}': steady(16)}, "6m", "8m"),
    ("WalletQueueFull", {"wallet_queue_full_total": steady(1)}, "5m", "6m"),
    ("WalletPoolExhausted", {'wallet_pool_waiting{pool="lists"}': steady(start=1)}, "1m45s", "2m15s"),
    ("WalletLockWaits", {'wallet_lock_wait_seconds_bucket{le="1"}': steady(89),
                         'wallet_lock_wait_seconds_bucket{le="0.1"}': steady(80)}, "5m", "6m"),
    ("WalletLedgerBroken", {"wallet_ledger_check_problems": f"0x20 1x{STEPS - 21}"}, "5m", "5m15s"),
    ("WalletLedgerUnchecked", {"wallet_ledger_check_timestamp_seconds": steady()}, "3h15m", "3h16m"),
    ("WalletLedgerUnchecked", {"wallet_ledger_check_timestamp_seconds": None}, "14m45s", "15m15s"),
]  # fmt: skip


@pytest.mark.parametrize(("alert", "changed", "not_yet", "by_now"), CASES)
def test_it_fires_when_that_lasts_and_no_other_does(
    tmp_path: Path, alert: str, changed: dict[str, str | None], not_yet: str, by_now: str
) -> None:
    series = {name: values for name, values in (HEALTHY | changed).items() if values is not None}
    assert contradicted(tmp_path, series, {not_yet: [], by_now: [alert]}) == ""


def test_each_alert_has_a_case() -> None:
    assert {alert for alert, *_ in CASES} == ALERTS.keys()
    assert len(ALERTS) == Counter(RULES.split())["alert:"]


@pytest.mark.parametrize("alert", ALERTS)
def test_each_says_what_it_means_and_where_it_is_told_what_to_do(alert: str) -> None:
    for annotation in ("summary", "description", "runbook"):
        assert re.search(rf"^ +{annotation}: .", ALERTS[alert], re.MULTILINE)
    assert re.search(r"severity: (critical|warning)}", ALERTS[alert])
    assert f"runbook: docs/operations.md#{alert.lower()}\n" in f"{ALERTS[alert]}\n"
    assert f"\n### {alert}\n" in (PROJECT / "docs/operations.md").read_text()
