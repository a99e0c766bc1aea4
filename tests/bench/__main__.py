"""`make bench`: every figure in one run on one machine. `make test-all` runs it with `--tiny`."""

from __future__ import annotations

import argparse
import hashlib
import platform
import time

from . import exports, hostile, indexing, kafka, path, query, serving

PARTS = ("path", "serving", "indexing", "queryable", "exports", "hostile", "kafka", "query")


def main(argv: list[str] | None = None) -> dict[str, object]:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small inputs: that it runs, not what it says")
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--index", metavar="DIRECTORY", help="where the part `query` keeps its index, or has kept it")
    options = parser.parse_args(argv)
    tiny = options.tiny
    only = options.only or PARTS
    begun = time.monotonic()
    print(
        f"CPython {platform.python_version()}, {platform.machine()}, seed {options.seed}, {'tiny' if tiny else 'full'}"
    )
    figures: dict[str, object] = {}
    if "path" in only:
        rounds, times = (1, 50) if tiny else (9, 1500)
        print(f"\nA request in process, {rounds} × {times} calls: the best round of each")
        table = path.measure(rounds, times)
        figures["path"] = table
        print(*path.report(table), sep="\n", flush=True)
    if "serving" in only:
        rate, seconds, rounds = (100, 0.5, 1) if tiny else (400, 8.0, 5)
        print(f"\nPOST 1 kB to uvicorn at {rate} requests a second, {rounds} × {seconds:g} s")
        served = serving.measure(rate, seconds, rounds)
        figures["serving"] = served
        print(*serving.report(served), sep="\n", flush=True)
    if "indexing" in only:
        number, pages = (2_000, 10) if tiny else (200_000, 1_000)
        print("\nIndexing into SQLite, then reading")
        indexed = indexing.measure(number, pages, options.seed)
        figures["indexing"] = indexed
        print(*indexing.report(indexed), sep="\n", flush=True)
    if "queryable" in only:
        requests = 5 if tiny else 300
        p50, p99 = indexing.queryable(requests, 20.0)
        figures["queryable"] = (p50, p99)
        print(f"\nFrom the end of a request to an answer that holds it, {requests} requests:")
        print(f"p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    if "exports" in only:
        number = 3_000 if tiny else 1_000_000
        print(f"\nAn export of {number:,} records")
        exported = exports.measure(number, options.seed)
        figures["exports"] = exported
        print(*exports.report(exported), sep="\n", flush=True)
    if "hostile" in only:
        kinds, clients, seconds = (("leaving",), 20, 1.0) if tiny else (hostile.KINDS, 280, 15.0)
        print(f"\n`serve` under {clients} hostile clients, {seconds:g} s each, the server alone on one processor")
        under = [hostile.measure(kind, clients, seconds, pinned=True) for kind in kinds]
        figures["hostile"] = under
        print(*hostile.report(under), sep="\n", flush=True)
    if "kafka" in only:
        rates, seconds, number = ((100,), 0.5, 500) if tiny else ((200, 1_000), 20.0, 100_000)
        print(f"\nOver Kafka, {seconds:g} s each")
        over_kafka = kafka.measure(seconds, number, rates, options.seed)
        figures["kafka"] = over_kafka
        print(*kafka.report(over_kafka), sep="\n", flush=True)
    if "query" in only:
        size = query.Size(3_000, 5, 100, 50) if tiny else query.Size(1_000_000, 200, 500, 60_000)
        print(f"\nAsking {size.records:,} records of {query.DAYS} days while {size.per_second} a second arrive")
        asked = query.measure(size, options.seed, options.index)
        figures["query"] = asked
        print(*query.report(asked), sep="\n", flush=True)
    digest = hashlib.sha256(repr(sorted(figures)).encode() + str(options.seed).encode()).hexdigest()[:12]
    print(f"\n{time.monotonic() - begun:.0f} s, parameters and parts {digest}")
    return figures


if __name__ == "__main__":
    main()
