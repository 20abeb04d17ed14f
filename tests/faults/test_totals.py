"""The totals after a crash: payment ids that were drawn and lost are not drawn again below what a check has noted."""

from pathlib import Path

import psycopg

from tests.faults.postgres import running
from tests.sql.calls import paid, row, rows
from tests.sql.test_totals import check
from tests.support import account, ledger_problems


def test_payments_after_a_crash_are_counted_though_others_with_higher_ids_were_lost(tmp_path: Path) -> None:
    with running(tmp_path / "postgres") as postgres:
        with postgres.admin() as admin:
            one, two, three, four = (account(admin, name, 100) for name in ("one", "two", "three", "four"))
            paid(admin, three, four, 1)
            admin.execute("checkpoint")
            other = psycopg.connect(postgres.conninfo())
            for _ in range(40):
                paid(other, one, two, 1)  # and does not commit
            row(admin, "record_ledger_check", 0)
        postgres.kill()
        other.close()
        postgres.start()
        with postgres.admin() as admin:
            for _ in range(3):
                ids = [paid(admin, one, two, 1) for _ in range(5)]
                check(admin)
            [(noted, counted)] = admin.execute(
                "select min(drawn_payment_id), max(counted_until_id) from ledger.ledger_check"
            ).fetchall()
            assert (noted, counted <= ids[-1]) == (41, True)
            assert [found["payments"] for found in rows(admin, "get_totals")] == [16, 0, 0, 0]
            assert min(ids) > noted
            assert ledger_problems(admin) == []
