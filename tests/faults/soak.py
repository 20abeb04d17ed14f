"""`make soak`: for as long as is asked, payments and captures under random faults, and the proof after each round."""

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random

from psycopg.conninfo import make_conninfo

from tests.faults import postgres
from tests.faults.captures import Capturer
from tests.faults.contradictions import verdict
from tests.faults.postgres import Postgres
from tests.faults.recorder import Fault, Recorder, open_accounts
from tests.faults.scene import Scene, scene
from tests.support import wait_until

# What is recorded is proved and forgotten after so many seconds: memory is limited.
_ROUND = 30.0
_PROGRESS = 10.0


def main() -> int:
    """Returns the exit code: 0 all well, 1 any trouble."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long payments are made (600)")
    parser.add_argument(
        "--seed", type=int, default=time.time_ns(), help="what the random choices begin with (the time)"
    )
    options = parser.parse_args()
    stopping = _stop_signals()
    _say(f"soak: {options.seconds:g} s, --seed {options.seed}; Ctrl-C ends it in order")
    with tempfile.TemporaryDirectory(prefix="wallet-soak-") as folder, ExitStack() as stack:
        soak = Soak(Path(folder), stack, Random(options.seed), stopping)
        return soak.run(options.seconds)


def _stop_signals() -> threading.Event:
    """What SIGINT and SIGTERM set. Ctrl-C is for us alone: programs that we start do not hear it, and go on."""
    stopping = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def wait() -> None:
        signal.sigwait({signal.SIGINT})
        stopping.set()

    threading.Thread(target=wait, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    return stopping


class Soak:
    """A primary and its standby, two instances, a load balancer; and what became of them."""

    def __init__(self, folder: Path, stack: ExitStack, random: Random, stopping: threading.Event) -> None:
        self._folder = folder
        self._stack = stack
        self._random = random
        self._stopping = stopping
        self._clusters = 0
        self._faults: dict[str, list[tuple[Fault, int]]] = defaultdict(list)
        self._counts = Counter[str]()
        self._captures = Counter[str]()
        self._troubles: list[str] = []
        self._begin = time.monotonic()
        self._recorder: Recorder | None = None

    def run(self, seconds: float) -> int:
        """Rounds of payments and faults, until the time is over or it is stopped."""
        finished = threading.Event()
        progress = threading.Thread(target=self._tell_progress, args=(finished,))
        progress.start()
        try:
            self._set_up()
            end = time.monotonic() + seconds
            while not self._over(end) and not self._troubles:
                self._round(min(end, time.monotonic() + _ROUND))
        except Exception:  # whatever it is, what was seen until then is worth its summary
            self._troubles.append(traceback.format_exc())
        finally:
            finished.set()
            progress.join()
        _say(self._summary())
        return 1 if self._troubles else 0

    def _set_up(self) -> None:
        self._primary = self._stack.enter_context(postgres.running(self._folder / "first"))
        self._standby = self._new_standby(postgres.free_port())
        ports = f"{self._primary.port},{self._standby.port}"
        both = make_conninfo(
            self._primary.conninfo(), host="127.0.0.1,127.0.0.1", port=ports, target_session_attrs="read-write"
        )
        self._stage: Scene = self._stack.enter_context(scene(self._folder, both))

    def _new_standby(self, port: int) -> Postgres:
        self._clusters += 1
        return self._stack.enter_context(self._primary.new_standby(self._folder / f"standby {self._clusters}", port))

    def _round(self, end: float) -> None:
        """Makes payments and causes faults, and then proves what became of them."""
        with self._primary.admin() as admin:
            accounts = open_accounts(admin)
            capturer = Capturer(self._stage.addresses, admin, seed=self._random.random())
        keyed, timeout = self._random.choice([0.5, 0.9]), self._random.choice([2.0, 20.0])
        seed = self._random.random()
        recorder = Recorder(self._stage.addresses, accounts, keyed=keyed, timeout=timeout, seed=seed)
        with capturer, recorder:
            self._recorder = recorder
            while not self._over(end):
                fault = self._random.choice(self._faults_to_cause())
                fault(recorder)
                if self._random.random() < 0.8:  # else the next one strikes before they have recovered
                    self._recover()
                self._stopping.wait(self._random.uniform(0, 2))
            self._recover()
            recorder.stop()
            capturer.stop()
        with self._primary.admin() as admin:
            self._troubles += [*verdict(admin, self._stage.address, recorder), *capturer.contradictions(admin)]
        self._recorder = None
        self._counts += recorder.counts()
        self._captures += capturer.counts
        for struck in recorder.faults:
            self._faults[struck.kind].append((struck, recorder.unanswered(struck)))

    def _faults_to_cause(self) -> list[Callable[[Recorder], object]]:
        return [
            self._kill_instance,
            self._kill_instance_that_waits,
            self._stop_instance,
            self._kill_primary,
            self._stop_primary,
            self._kill_standby,
            self._fail_over,
            self._cut_connections,
            self._hold_lock,
        ]

    def _recover(self) -> None:
        wait_until(self._stage.is_ready)

    def _kill_instance(self, recorder: Recorder) -> None:
        instance = self._random.choice(self._stage.instances)
        recorder.strike("kill -9 of an instance", instance.kill)
        self._stopping.wait(self._random.uniform(0, 2))
        instance.start()

    def _kill_instance_that_waits(self, recorder: Recorder) -> None:
        instance = self._random.choice(self._stage.instances)
        with self._primary.account_locked(recorder.accounts[0].id):
            recorder.strike("kill -9 of an instance, account locked", instance.kill)
            self._stopping.wait(self._random.uniform(0, 2))
        instance.start()

    def _stop_instance(self, recorder: Recorder) -> None:
        instance = self._random.choice(self._stage.instances)
        codes: list[int] = []
        recorder.strike("SIGTERM of an instance", lambda: codes.append(instance.stop()))
        if codes != [0]:
            self._troubles.append(f"an instance that was stopped ended with exit code {codes}")
        instance.start()

    def _kill_primary(self, recorder: Recorder) -> None:
        recorder.strike("kill -9 of PostgreSQL, started again", self._primary.kill)
        self._stopping.wait(self._random.uniform(0, 2))
        self._primary.start()

    def _stop_primary(self, recorder: Recorder) -> None:
        recorder.strike("PostgreSQL stopped, started again", self._primary.stop)
        self._primary.start()

    def _kill_standby(self, recorder: Recorder) -> None:
        recorder.strike("kill -9 of the standby, started again", self._standby.kill)
        self._stopping.wait(self._random.uniform(0, 3))
        self._standby.start()

    def _fail_over(self, recorder: Recorder) -> None:
        with self._primary.admin() as admin:  # as the operator who promotes a standby makes sure of
            followed = "select from pg_stat_replication where sync_state = 'sync' and state = 'streaming'"
            wait_until(lambda: admin.execute(followed).fetchone() is not None)
        recorder.strike("kill -9 of the primary, standby promoted", self._primary.kill)
        lost = self._primary
        self._standby.promote()
        self._primary = self._standby
        self._standby = self._new_standby(lost.port)
        shutil.rmtree(lost.folder)

    def _cut_connections(self, recorder: Recorder) -> None:
        with self._primary.admin() as admin:
            cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'wallet'"
            recorder.strike("connections to PostgreSQL cut", lambda: admin.execute(cut))

    def _hold_lock(self, recorder: Recorder) -> None:
        with self._primary.account_locked(self._random.choice(recorder.accounts[:3]).id):
            seconds = self._random.uniform(1, 7)
            recorder.strike("account locked for seconds", lambda: self._stopping.wait(seconds))

    def _over(self, end: float) -> bool:
        return self._stopping.is_set() or time.monotonic() >= end

    def _tell_progress(self, finished: threading.Event) -> None:
        while not finished.wait(_PROGRESS):
            recorder = self._recorder
            counts = self._counts + (Counter() if recorder is None else recorder.counts())
            faults = sum(map(len, self._faults.values())) + (0 if recorder is None else len(recorder.faults))
            said = (
                f"{counts['made']:,} payments made, {counts['refused']:,} refused, {counts['sent again']:,} sent again"
            )
            flight = 0 if recorder is None else recorder.in_flight()
            _say(f"{time.monotonic() - self._begin:5.0f} s: {faults} faults, {said}, {flight} in flight")

    def _summary(self) -> str:
        lines = ["", "faults                                    caused  in flight  unanswered"]
        for kind, struck in sorted(self._faults.items()):
            in_flight = sum(fault.in_flight for fault, _ in struck)
            lines.append(f"{kind:<40} {len(struck):7,} {in_flight:10,} {sum(lost for _, lost in struck):11,}")
        lines += ["", *(f"{number:10,} payments {what}" for what, number in sorted(self._counts.items()))]
        lines += [*(f"{number:10,} {what}" for what, number in sorted(self._captures.items())), ""]
        if self._troubles:
            lines += [f"TROUBLE, {len(self._troubles)} in all:", *self._troubles[:50]]
        else:
            lines.append(
                "The model agrees with every payment and every answer, captures with theirs, and check_ledger() finds nothing."
            )
        return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
