"""The report of `make test-engine`, a plugin of pytest: by area what holds, and by SQLSTATE what the server refuses."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Generator
from pathlib import PurePath
from typing import Any

import psycopg
import pytest

from tests import support

_REFUSED, _LEFT_OUT = "refused", "left_out"
# Of a failure without one: the server gives another answer than PostgreSQL.
_OTHER = "no SQLSTATE"
_REASONS = {
    "pooled": "behind PgBouncer, which differs by its own version and not by the server",
    "prepared": "prepared transactions, as max_prepared_transactions is 0",
    "skipped": "those that skip themselves on this machine",
}
# "POST /payments: 0A000 not supported": how the service logs what the database refused.
_LOGGED = re.compile(r": ([0-9A-Z]{5}) ([^\"]*)")
# A test that compares codes names the one that it got.
_COMPARED = re.compile(r"'([0-9A-Z]{5})'")

_lines_before: dict[support.Server, int] = {}
_left_out: Counter[str] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests that do not depend on the server, or that it is not set up for."""
    markers = os.environ.get("WALLET_TEST_LEAVE_OUT", "").split()
    left = {item: name for item in items for name in markers if item.get_closest_marker(name)}
    _left_out.update(left.values())
    config.hook.pytest_deselected(items=list(left))
    items[:] = [item for item in items if item not in left]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of xdist passes on what it has left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_LEFT_OUT] = dict(_left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """All processes leave out the same."""
    _left_out.update(
        {name: n - _left_out[name] for name, n in getattr(node, "workeroutput", {}).get(_LEFT_OUT, {}).items()}
    )


def pytest_runtest_setup() -> None:
    """Remembers what the services have logged before."""
    _lines_before.clear()
    _lines_before.update({server: len(server.lines) for server in support.servers})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds to the report of a failure the errors of the server that are behind it."""
    report = yield
    if report.failed and call.excinfo is not None:
        report.user_properties.append((_REFUSED, list(_refusals(call.excinfo.value).items())))
    return report


def _refusals(failure: BaseException) -> dict[str, str]:
    """SQLSTATEs with a message each: of the exceptions, in the words of the test, and in the logs of the services."""
    found: dict[str, str] = {}
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, psycopg.Error) and cause.sqlstate:
            found.setdefault(cause.sqlstate, str(cause.diag.message_primary))
        cause = cause.__cause__ or cause.__context__
    for state in _COMPARED.findall(str(failure)):
        found.setdefault(state, "")
    for server in support.servers:
        for line in server.lines[_lines_before.get(server, 0) :]:
            found |= {state: words for state, words in _LOGGED.findall(line) if not found.get(state)}
    return {state: words for state, words in found.items() if _name(state)}


def _name(state: str) -> str | None:
    """What PostgreSQL calls an SQLSTATE of its own."""
    try:
        return psycopg.errors.lookup(state).__name__
    except KeyError:
        return None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the table."""
    if hasattr(terminalreporter.config, "workeroutput"):
        return
    areas: dict[str, Counter[str]] = defaultdict(Counter)
    states: dict[str, Counter[str]] = defaultdict(Counter)
    words: dict[str, str] = {}
    for outcome, column in (("passed", "holds"), ("failed", "fails"), ("error", "fails"), ("skipped", "skipped")):
        for report in terminalreporter.stats.get(outcome, []):
            area = _area(report.nodeid)
            areas[area][column] += 1
            if column == "fails":
                refused = dict(dict(report.user_properties).get(_REFUSED, [])) or {_OTHER: ""}
                states[area].update(refused.keys())
                words |= {state: message for state, message in refused.items() if not words.get(state)}
    write = terminalreporter.write_line
    terminalreporter.section("what holds on this server")
    write(f"{'area':<40} {'holds':>6} {'fails':>6}  SQLSTATE: tests")
    for name, counts in sorted(areas.items()):
        listed = ", ".join(f"{state}: {number}" for state, number in sorted(states[name].items()))
        write(f"{name:<40} {counts['holds']:>6} {counts['fails']:>6}  {listed}".rstrip())
    for state, number in sum(states.values(), Counter()).most_common():
        example = f", such as: {words[state]}" if words[state] else ""
        title = f"{state} {_name(state)}" if _name(state) else state
        write(f"{title} (tests: {number}){example}")
    _left_out["skipped"] = sum(counts["skipped"] for counts in areas.values())
    for name, number in _left_out.items():
        if number:
            write(f"not tried (tests: {number}): {_REASONS[name]}")


def _area(node: str) -> str:
    """tests/sql/test_holds.py::test_x[1] is of the area "sql: holds"."""
    path = PurePath(node.partition("::")[0])
    return f"{path.parent.name}: {path.stem.removeprefix('test_').replace('_', ' ')}"
