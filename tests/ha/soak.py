"""`make soak-ha`: for as long as is asked, payments on a cluster under random faults, and the proof after each."""

import argparse
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from random import Random

from tests.ha import cluster as clusters
from tests.ha.faults import FAULTS, Fault, gap, under_load


def main() -> int:
    """Returns the exit code: 0 all well, 1 any trouble."""
    parser = argparse.ArgumentParser(prog="python -m tests.ha.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long faults are caused (600)")
    parser.add_argument(
        "--seed", type=int, default=time.time_ns(), help="what the random choices begin with (the time)"
    )
    options = parser.parse_args()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: sys.exit(1))  # what was started is ended on the way out
    print(f"soak: {options.seconds:g} s, --seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="wallet-soak-ha-") as folder, ExitStack() as stack:
        try:
            return soak(Path(folder), stack, Random(options.seed), options.seconds)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print("TROUBLE")
            return 1


def soak(folder: Path, stack: ExitStack, random: Random, seconds: float) -> int:
    """Causes faults, each under load; prints how long no payment was acknowledged."""
    cluster = stack.enter_context(clusters.running(folder / "cluster"))
    stage = stack.enter_context(clusters.scene(folder, cluster))
    gaps = defaultdict(list)
    payments = 0
    end = time.monotonic() + seconds
    coming = list[Fault]()
    while time.monotonic() < end:
        coming = coming or random.sample(FAULTS, len(FAULTS))
        with under_load(cluster, stage) as clients:
            coming.pop()(cluster, clients)
        [fault] = clients.faults
        gaps[fault.kind].append(gap(clients, fault))
        payments += clients.counts()["made"]
    print("\nno payment for, in seconds                caused  median    max")
    for kind, each in sorted(gaps.items()):
        print(f"{kind:<40} {len(each):7} {statistics.median(each):7.1f} {max(each):6.1f}")
    print(
        f"\n{payments:,} payments. All agree with the model; no reader saw one that does not exist; check_ledger() finds nothing."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
