"""What a run found: the table, the same as JSON, and a plot."""

import json
import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench import plan
from tests.bench.plan import Measurement, Ratio, Results, Row


@dataclass(frozen=True)
class Report:
    """All that is written down."""

    machine: dict[str, str]
    results: Results
    ratios: Sequence[Ratio]
    notes: Sequence[str]

    def write(self, folder: Path) -> str:
        """Writes results.json, results.md and throughput.svg, and returns the table."""
        folder.mkdir(parents=True, exist_ok=True)
        table = self.table()
        (folder / "results.md").write_text(table)
        (folder / "results.json").write_text(json.dumps(self._plain(), indent=2) + "\n")
        _plot(self.results, folder / "throughput.svg")
        return table

    def table(self) -> str:
        """Rows, then ratios, in Markdown, aligned to be read as it is."""
        parts = [
            "# make bench",
            "\n".join(f"- {name}: {value}" for name, value in self.machine.items()),
            "Medians of the rounds; accepted and refused are their sums. Per second: answers, or rows. Latencies in "
            "milliseconds; of SQL, pgbench reports the average (ø) alone.",
            _aligned(_HEADS, [_cells(row, rounds) for row, rounds in self.results.items()]),
            "Ratios: medians of each round's own.",
            _aligned(_RATIO_HEADS, [_ratio_cells(ratio) for ratio in self.ratios]),
            "\n".join(f"- {note}" for note in self.notes),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _plain(self) -> dict[str, object]:
        return {
            "machine": self.machine,
            "rows": [
                {**asdict(row), "rounds": [{**asdict(one), "statuses": dict(one.statuses)} for one in rounds]}
                for row, rounds in self.results.items()
            ],
            "ratios": [
                {**asdict(ratio), "value": ratio.value if ratio.rounds else None, "verdict": ratio.verdict}
                for ratio in self.ratios
            ],
            "notes": list(self.notes),
        }


def machine(postgres: str, workers: str, keys: bool) -> dict[str, str]:
    """What the numbers depend on."""
    return {
        "CPU": f"{_cpu()}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores",
        "Shared": "wrk and PostgreSQL share the same cores",
        "Python": platform.python_version(),
        "PostgreSQL": postgres,
        "Workers": workers,
        "API keys": "required" if keys else "off",
    }


def _cpu() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


_HEADS = ("what", "door", "clients", "per second", "lowest–highest", "p50", "p99", "accepted", "refused")
_RATIO_HEADS = ("ratio", "value", "lowest–highest", "target", "")


def _cells(row: Row, rounds: Sequence[Measurement]) -> list[str]:
    speeds = [one.per_second for one in rounds]
    p50 = _middle(rounds, lambda one: one.p50)
    average = _middle(rounds, lambda one: one.average)
    return [
        row.title,
        row.door,
        f"{row.clients:,}",
        f"{median(speeds):,.0f}",
        f"{min(speeds):,.0f}–{max(speeds):,.0f}",
        f"ø {average}" if average else p50,
        _middle(rounds, lambda one: one.p99),
        _sum(rounds, lambda one: one.accepted),
        _sum(rounds, lambda one: one.refused),
    ]


def _ratio_cells(ratio: Ratio) -> list[str]:
    if ratio.rounds:
        value, spread = f"{ratio.value:.3g}", f"{min(ratio.rounds):.3g}–{max(ratio.rounds):.3g}"
    else:
        value, spread = "", ""
    return [ratio.title, value, spread, f"at {'most' if ratio.at_most else 'least'} {ratio.target:g}", ratio.verdict]


def _middle(rounds: Sequence[Measurement], of: Callable[[Measurement], float | None]) -> str:
    values = [value for one in rounds if (value := of(one)) is not None]
    return f"{median(values):.2f}" if values else ""


def _sum(rounds: Sequence[Measurement], of: Callable[[Measurement], int | None]) -> str:
    values = [value for one in rounds if (value := of(one)) is not None]
    return f"{sum(values):,}" if values else ""


def _aligned(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what is a number stands to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    left = [not any(re.match(r"(ø )?[\d.,]+$", line[number]) for line in lines) for number in range(len(heads))]
    rule = [f":{'-' * (width - 1)}" if is_left else f"{'-' * (width - 1)}:" for width, is_left in _both(widths, left)]
    written = []
    for line in (heads, rule, *lines):
        cells = [
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, (width, is_left) in zip(line, _both(widths, left), strict=True)
        ]
        written.append(f"| {' | '.join(cells)} |")
    return "\n".join(written)


def _both(widths: Sequence[int], left: Sequence[bool]) -> list[tuple[int, bool]]:
    return [(max(width, 2), is_left) for width, is_left in zip(widths, left, strict=True)]


def _plot(results: Results, path: Path) -> None:
    """Two panels: payments a second by number of clients, and by number of hot accounts."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    clients, hot = figure.subplots(1, 2)
    _line(clients, results, "HTTP", {n: plan.http(n) for n in plan.HTTP_CLIENTS})
    _line(clients, results, "SQL", {n: plan.sql(n) for n in plan.SQL_CLIENTS})
    clients.set(title="Payments among 1,000 accounts", xlabel="clients", xscale="log", ylabel="payments a second")
    clients.set_xticks([1, 8, 16, 64, 256], ["1", "8", "16", "64", "256"])
    accounts = (10, 100, 1000)
    over_http = {1: plan.http_seller(plan.HOT_HTTP)} | {n: plan.http(plan.HOT_HTTP, n) for n in accounts}
    over_sql = {1: plan.sql_seller(plan.HOT_SQL)} | {n: plan.sql(plan.HOT_SQL, n) for n in accounts}
    _line(hot, results, f"HTTP, {plan.HOT_HTTP} clients", over_http)
    _line(hot, results, f"SQL, {plan.HOT_SQL} clients", over_sql)
    hot.set(title="Payments that meet on few accounts", xlabel="accounts", xscale="log")
    hot.set_xticks([1, *accounts], ["one seller", *(f"{n:,}" for n in accounts)])
    for panel in (clients, hot):
        panel.minorticks_off()
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path)


def _line(panel: Axes, results: Results, label: str, rows: dict[int, Row]) -> None:
    """The medians, each with its lowest and highest round."""
    measured = {n: [one.per_second for one in results[row]] for n, row in rows.items() if row in results}
    middle = [median(speeds) for speeds in measured.values()]
    below = [median(speeds) - min(speeds) for speeds in measured.values()]
    above = [max(speeds) - median(speeds) for speeds in measured.values()]
    panel.errorbar(list(measured), middle, yerr=[below, above], marker="o", capsize=3, label=label)
