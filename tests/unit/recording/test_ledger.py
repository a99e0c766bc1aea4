"""Statements: ranges without gaps, every loss once, W never decreases, the size is bounded by splitting and not by
dropping."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asgi_audit.record.statement import STATEMENT_BYTES_MAX, Lost, Statement, encode_statement
from asgi_audit.recording.ledger import Ledger, Losses, Tally, merged


def ledger() -> Ledger:
    return Ledger(process="p", host="h", service="s", started=1)


def seen(last: int, now: int = 100, recent_oldest: int | None = None, **more: int) -> Tally:
    return Tally(
        now=now,
        open_count=more.get("open_count", 0),
        open_oldest=recent_oldest,
        recent_oldest=recent_oldest,
        last=last,
        excluded=more.get("excluded", 0),
        unwaited=more.get("unwaited", 0),
        clock_steps=0,
    )


def test_statement_covers_from_the_last_one_on_when_it_was_written() -> None:
    made = ledger()
    (first,) = made.make(seen(5, excluded=2, unwaited=1))
    assert (first.number, first.first, first.last, first.count) == (1, 1, 5, 5)
    assert (first.excluded, first.unwaited, first.host, first.started) == (2, 1, "h", 1)
    assert made.make(seen(5))[0].number == 1, "not written: said again"
    made.written([first])
    (second,) = made.make(seen(5))
    assert (second.number, second.first, second.last, second.count) == (2, 6, 5, 0)


def test_loss_is_stated_once_when_its_statement_was_written() -> None:
    made = ledger()
    made.losses.add(2, 2, "queue")
    made.losses.add(3, 4, "queue")
    made.losses.add(7, 7, "build")
    (first,) = made.make(seen(6))
    assert first.lost == [Lost(2, 4, "queue")]
    assert first.count == 3
    (again,) = made.make(seen(6))
    assert again.lost == first.lost
    made.written([first])
    (second,) = made.make(seen(8))
    assert second.lost == [Lost(7, 7, "build")]
    assert second.count == 1


def test_loss_range_is_cut_when_the_statement_ends_inside_it() -> None:
    losses = Losses()
    losses.add(1, 10, "queue")
    assert losses.until(4) == ([Lost(1, 4, "queue")], 0)
    losses.stated(4)
    assert losses.until(99) == ([Lost(5, 10, "queue")], 0)


def test_watermark_never_decreases_when_an_older_exchange_appears() -> None:
    made = ledger()
    first = made.make(seen(1, now=100))
    made.written(first)
    assert first[0].watermark == 100
    (second,) = made.make(seen(1, now=150, recent_oldest=90))
    assert second.watermark == 100
    (third,) = made.make(seen(1, now=150, recent_oldest=120))
    assert third.watermark == 120


def test_many_losses_become_several_statements_when_one_is_too_small() -> None:
    made = ledger()
    made.written(made.make(seen(0, now=50)))
    for n in range(1, 8000, 2):
        made.losses.add(n, n, "journal_full")
    statements = made.make(seen(9000, now=500), "provisional")
    assert len(statements) == 4
    assert all(len(encode_statement(s)) <= STATEMENT_BYTES_MAX for s in statements)
    assert sum(len(s.lost) for s in statements) == 4000
    assert sum(s.lost_more for s in statements) == 0
    assert [s.number for s in statements] == [2, 3, 4, 5]
    assert [s.watermark for s in statements] == [50, 50, 50, 500], "an earlier part promises no more than was promised"
    assert [s.closed for s in statements] == ["", "", "", "provisional"]
    check_ranges(statements, 0, 9000)
    made.written(statements)
    assert not made.losses


def test_losses_are_counted_when_there_are_too_many_to_name() -> None:
    made = ledger()
    for n in range(1, 50_001, 2):
        made.losses.add(n, n, "queue")
    statements = made.make(seen(50_000))
    named = sum(r.last - r.first + 1 for s in statements for r in s.lost)
    assert named + sum(s.lost_more for s in statements) == 25_000
    assert sum(s.count for s in statements) == 25_000
    assert len(made.losses) == 20_000
    made.written(statements)
    assert not made.losses


def check_ranges(statements: list[Statement], after: int, last: int) -> None:
    for s in statements:
        assert s.first == after + 1
        inside = sum(r.last - r.first + 1 for r in s.lost)
        assert all(s.first <= r.first and r.last <= s.last for r in s.lost)
        assert s.count == s.last - s.first + 1 - inside - s.lost_more
        after = s.last
    assert after == last


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20), st.booleans()), max_size=60))
def test_every_loss_is_in_exactly_one_statement(steps: list[tuple[int, int, bool]]) -> None:
    made = ledger()
    last = stated = 0
    lost: set[int] = set()
    found: list[int] = []
    for present, missing, is_written in steps:
        last += present
        if missing:
            made.losses.add(last + 1, last + missing, "queue" if missing % 2 else "journal")
            lost |= set(range(last + 1, last + missing + 1))
            last += missing
        statements = made.make(seen(last))
        if is_written:
            check_ranges(statements, stated, last)
            made.written(statements)
            stated = last
            found += [n for s in statements for r in s.lost for n in range(r.first, r.last + 1)]
    found += [n for s in made.make(seen(last)) for r in s.lost for n in range(r.first, r.last + 1)]
    assert sorted(found) == sorted(lost)


def test_merged_puts_neighbours_of_one_reason_together() -> None:
    assert merged([Lost(5, 6, "a"), Lost(1, 2, "a"), Lost(3, 4, "a"), Lost(7, 7, "b")]) == [
        Lost(1, 6, "a"),
        Lost(7, 7, "b"),
    ]
