"""Prints the figures of the redaction: the matrix of places and ways, ordinary documents, adversarial bodies.

`python -m tests.unit.redaction.measure matrix [seeds]`, `… blind [seeds]`, `… ordinary`, `… adversarial [bodies]`,
`… steps`.
"""

from __future__ import annotations

import sys
from collections import Counter

import orjson
from tests.support.exchanges import make_builder, make_exchange
from tests.support.machine import processor_time, slowness

from asgi_audit.exchange.sealed import Exchange
from asgi_audit.redaction.budget import STEPS_MAX
from asgi_audit.redaction.redactor import RecordRedactor

from . import cells


def matrix(seeds: int) -> int:
    builder = make_builder()
    total: Counter[tuple[str, str]] = Counter()
    leaked: Counter[tuple[str, str]] = Counter()
    omitted: Counter[str] = Counter()
    shown: Counter[tuple[str, str]] = Counter()
    for place, ways in cells.PROMISE.items():
        for way in ways:
            for seed in range(seeds):
                made = cells.cell(place, way, seed)
                x = made.exchange
                data = x.request_body.data() or x.response_body.data()
                record = builder.build(x)
                total[place, way] += 1
                value = orjson.loads(record)
                captured = [value["context"][side]["captured"] for side in ("requestBody", "responseBody")]
                omitted[place] += "omitted" in captured
                if cells.leaks(made.secret, record):
                    leaked[place, way] += 1
                    shown[place, way] += 1
                    if shown[place, way] <= 3 and "-v" in sys.argv:
                        print(place, "|", way, "|", seed, "|", made.secret, "|", x.path, x.query_string, data[:300])
                        print("    ->", record[300:900])
    for place, ways in cells.PROMISE.items():
        print(
            f"{place:12}",
            *(f"{way}: {leaked[place, way]}/{total[place, way]}" for way in ways),
            "omitted",
            omitted[place],
        )
    print(sum(total.values()), "cells,", sum(leaked.values()), "leaks,", sum(omitted.values()), "omitted")
    return sum(leaked.values())


def blind_set(seeds: int) -> int:
    """Prints the leaks of the third set, by file; `-v` prints each template that leaks. `-n`, `-f`: also names, formats
    of keys."""
    from . import blind

    builder = make_builder()
    total: Counter[str] = Counter()
    leaked: Counter[str] = Counter()
    rows = [*blind.templates(), *(blind.named() if "-n" in sys.argv else ())]
    made = [(t, blind.planted(t, seed)) for t in rows for seed in range(seeds)]
    if "-f" in sys.argv:
        made += [(m.template, m) for v in blind.vendors() for seed in range(seeds) for m in [blind.known(v, seed)]]
    shown: set[str] = set()
    for template, planted in made:
        record = builder.build(planted.exchange)
        total[template.group] += 1
        if cells.leaks(planted.secret, record):
            leaked[template.group] += 1
            if "-v" in sys.argv and (template.text not in shown or template.group.startswith("vendor")):
                shown.add(template.text)
                print(
                    template.group,
                    "|",
                    template.kind,
                    "|",
                    template.text.strip().replace("\n", "⏎"),
                    "|",
                    planted.secret,
                )
    for group in total:
        if leaked[group] or not group.startswith(("name ", "vendor ")):
            print(f"{group:24} {leaked[group]}/{total[group]}")
    print(sum(total.values()), "planted in", len(rows), "documents,", sum(leaked.values()), "leaks")
    return sum(leaked.values())


def ordinary() -> int:
    from .ordinary import documents

    builder = make_builder()
    damaged: Counter[str] = Counter()
    omitted = count = 0
    for family, kind, text in documents():
        data = text.encode()
        value = orjson.loads(builder.build(make_exchange("GET", answer=data, answer_type=kind.encode())))
        count += 1
        was = value["context"]["responseBody"]["captured"] == "omitted"
        omitted += was
        if was or "redacted" in value["context"]:
            damaged[family] += 1
            if "-v" in sys.argv:
                print(family, "OMITTED" if was else value["context"]["redacted"][:4], text[:150].replace("\n", "⏎"))
                body = value["response"]["body"]
                body = orjson.dumps(body).decode() if not isinstance(body, str) else body
                at = body.find("[REDACTED]")
                print("     ->", repr(body[max(0, at - 70) : at + 60]))
    print(count, "documents,", sum(damaged.values()), "damaged,", omitted, "omitted", dict(damaged))
    return sum(damaged.values())


def adversarial() -> None:
    from .adversarial import bodies

    builder = make_builder()
    worst: list[tuple[float, int, bytes]] = []
    for number, (kind, data) in enumerate(bodies(int(sys.argv[2]) if len(sys.argv) > 2 else 2_000)):
        x = make_exchange("POST", body=data, content_type=kind)
        best = min(processor_time(lambda x=x: builder.build(x)) for _ in range(2))  # type: ignore[misc]
        worst.append((best, number, data[:60]))
    worst.sort(reverse=True)
    for spent, number, data in worst[:12]:
        print(f"{spent * 1e3:7.1f} ms", number, data)
    above = ", ".join(f"{sum(w[0] > limit / 1e3 for w in worst)} above {limit} ms" for limit in (25, 15, 12))
    print(f"{len(worst)} bodies; {above}; the machine is {slowness(0.01):.1f} times as slow as when it is idle")


def steps() -> None:
    """Prints how much of its budget each large document takes, and the most that the others do."""
    from . import blind, large
    from .ordinary import documents

    builder = make_builder()

    def share(x: Exchange) -> float:
        records: list[RecordRedactor] = []
        start = builder._redactor.record
        builder._redactor.record = lambda: records.append(start()) or records[-1]  # type: ignore[func-returns-value,method-assign]
        builder.build(x)
        builder._redactor.record = start  # type: ignore[method-assign]
        room = STEPS_MAX + (x.request_body.kept >> 6) + (x.response_body.kept >> 6)
        return max(((room - record.left) / room for record in records), default=0)

    shares = {
        "large": [
            (share(make_exchange("POST", body=some.body(), content_type=some.kind.encode())), name)
            for name, some in large.DOCUMENTS.items()
        ],
        "ordinary": [
            (share(make_exchange("GET", answer=text.encode(), answer_type=kind.encode())), f"{family} {text[:40]}")
            for family, kind, text in documents()
        ],
        "matrix": [
            (share(cells.cell(place, way, seed).exchange), f"{place} {way}")
            for place, ways in cells.PROMISE.items()
            for way in ways
            for seed in range(10)
        ],
        "blind": [
            (share(blind.planted(t, 0).exchange), f"{t.group} {t.text[:40]}")
            for t in (*blind.templates(), *blind.named())
        ],
    }
    for name, some in shares.items():
        for part, told in sorted(some, reverse=True)[: None if name == "large" else 5]:
            print(f"{part:7.1%} {name}: {told!r}")


if __name__ == "__main__":
    if sys.argv[1] == "matrix":
        matrix(int(sys.argv[2]) if len(sys.argv) > 2 else 180)
    elif sys.argv[1] == "blind":
        blind_set(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
    else:
        {"ordinary": ordinary, "adversarial": adversarial, "steps": steps}[sys.argv[1]]()
