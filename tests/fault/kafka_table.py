"""The Kafka fault table: real brokers, real processes, real HTTP load; every record is accounted for.

    python -m tests.fault.kafka_table                  all rows, in full: about 15 minutes
    python -m tests.fault.kafka_table --row NAME       that row (may be given again)
    python -m tests.fault.kafka_table --tiny           the rows of the test suite, with short waits

Columns: answers that clients saw; sequences that the processes gave; of these indexed (each once), stated lost, missing
(neither), and twice in the index. given = indexed + lost + missing in every row; missing is 0 but where Kafka itself
Columns: responses that clients saw; sequences that the processes gave; of these indexed (each once), stated lost,
missing (neither), and twice in the index. given = indexed + lost + missing in every row; missing is 0 except where
Kafka itself lost records, which an incident reports. Exit code 1 on any disagreement.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fault.kafka_rig import Account
from tests.fault.kafka_rows import ROWS, Row
from tests.support import kafka
from tests.support.kafka import LocalKafka

__all__ = ["main", "measure"]

_HEADS = ("seen", "given", "indexed", "lost", "missing", "twice")


def measure(rows: list[Row], seed: int, *, tiny: bool, directory: Path) -> dict[str, Account]:
    """Runs the rows one after the other, on one cluster for all that need the same number of brokers; prints each
    result."""
    jars = kafka.jars()
    if jars is None:
        raise SystemExit(kafka.HOW_TO_GET_ONE)
    accounts: dict[str, Account] = {}
    for brokers in sorted({r.brokers for r in rows}):
        with contextlib.ExitStack() as stack:
            cluster = LocalKafka(directory / f"kafka-{brokers}", jars, brokers=brokers)
            stack.callback(cluster.stop)
            cluster.start()
            for r in rows:
                if r.brokers != brokers:
                    continue
                began = time.monotonic()
                try:
                    account = r.measure(cluster, directory / r.name, seed, tiny=tiny)
                except AssertionError as e:
                    account = Account(wrong=[str(e)])
                    with contextlib.suppress(Exception):  # whatever its faults were
                        cluster.resume()
                accounts[r.name] = account
                print(_line(r, account), f" {time.monotonic() - began:.0f} s", flush=True)
                for wrong in account.wrong:
                    print(f"    WRONG: {wrong}", flush=True)
                if any("not within" in wrong or "broker" in wrong for wrong in account.wrong):
                    cluster.stop()
                    cluster.start()
    return accounts


def _line(r: Row, a: Account) -> str:
    numbers = (a.seen, a.given, a.indexed, a.lost, a.missing, a.twice)
    more = [*a.notes, *(f"{count} {kind}" for kind, count in sorted(a.incidents.items()))]
    return f"{r.name:<18}" + "".join(f"{n:>9}" for n in numbers) + "   " + "; ".join(more)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", action="append", choices=list(ROWS), help="run this one alone; may be given again")
    parser.add_argument("--tiny", action="store_true", help="short waits; without --row the suite's rows alone")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else random.randrange(1 << 30)
    rows = [r for r in ROWS.values() if (r.name in given.row if given.row else r.tiny or not given.tiny)]
    print(f"seed {seed}, Kafka {kafka.KAFKA_VERSION}, {'tiny' if given.tiny else 'in full'}")
    print(f"{'row':<18}" + "".join(f"{head:>9}" for head in _HEADS) + "   notes and incidents")
    with tempfile.TemporaryDirectory(prefix="kafka-table-") as directory:
        accounts = measure(rows, seed, tiny=given.tiny, directory=Path(directory))
    return 1 if any(a.wrong for a in accounts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
