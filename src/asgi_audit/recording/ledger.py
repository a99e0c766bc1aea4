"""The ledger of a process: what became of each of its sequence numbers, as statements that an index can check.

The idea: a process numbers its exchanges 1, 2, 3 … and states from time to time what became of them. With these
statements an index can prove that it has everything, without asking the process. An example:

    journal   records 1 2 3 5   statement 1: "1 to 5: 4 records, 4 was lost (journal); W = 12:00:01"
              records 6 7       statement 2: "6 to 7: 2 records; W = 12:00:02"

An index that has 1, 2, 3 and 5 knows that the first five are accounted for: 4 is a stated loss. If it lacked 2, then 2
would be *missing*. W, the watermark, is a promise about time: every exchange that began before W has a number that is
covered (except the long-open ones, which the statement counts).

Place: the recorder's thread makes statements here and appends each behind everything that it covers.

Invariants:
* A sequence without a record is in the losses of exactly one statement.
* W never decreases.
* A statement has at most 64 KB. When its losses need more they are split over several; the earlier ones cover less, and
  keep the old W.
* At most 20,000 ranges of losses are kept as ranges; of more, only their number is stated (`lost_more`).

A statement also holds the Merkle root of its records and the digest of the statement before it, so that a changed or
removed entry shows. Leaf hashes arrive in the order of the journal, and a statement directly follows its records, so
one hash for each level of the tree is all that is kept. Statements that share one split range have no root.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from .. import __version__
from ..record.merkle import Tree, statement_digest
from ..record.statement import Lost, OpenOf, Statement
from ..settings import Settings

__all__ = ["RECENT_SECONDS", "Ledger", "Losses", "Tally", "merged", "policy_digest", "policy_of", "split"]

Closed = Literal["", "provisional", "final", "adopted"]

RECENT_SECONDS = 60  # an exchange open for longer no longer holds W back; it is counted instead
_RANGES_MAX = 20_000
_RANGES_EACH = 1000  # two 19-digit numbers and a reason each: 55 KB
# An encoder of its own: the application may have replaced `json.dumps` when a framework makes the middleware.
_POLICY_TEXT = json.JSONEncoder(sort_keys=True).encode
_ACCOUNTS_MAX = 100
# The settings that decide which exchanges become records, and how much of them.
_POLICY = (
    "body_bytes_max",
    "capture_bytes_max",
    "delivery",
    "detail",
    "redact_forms",
    "redact_names",
    "redact_paths",
    "region",
    "scope",
)


class Tally(NamedTuple):
    """The recorder's state, read at one instant: now first, then the open exchanges, then `last`. Times in ms since
    the epoch."""

    now: int
    open_count: int
    open_oldest: int | None
    recent_oldest: int | None  # start of the oldest exchange open for less than RECENT_SECONDS
    last: int
    excluded: int
    unwaited: int
    clock_steps: int
    open_long: int = 0  # those open for RECENT_SECONDS and more
    open_long_newest: int | None = None
    open_of: Mapping[str, int] = {}  # how many of all open ones belong to which account, where it is known
    open_long_of: Mapping[str, int] = {}  # of those open for RECENT_SECONDS and more
    begun: int = 0  # exchanges that had begun; the statement does not cover later ones


class Losses:
    """Sequences without a record that are not stated yet, as ranges. Used by several threads under the recorder's
    lock."""

    def __init__(self) -> None:
        # The ends of a range are changed in place: making a new object may run the garbage collector, which may seal an
        # exchange and so call `add`.
        self._ranges: list[tuple[list[int], str]] = []
        self._more = [0, 0]  # the last sequence beyond the bound, and how many they are

    def __bool__(self) -> bool:
        return bool(self._ranges or self._more[1])

    def __len__(self) -> int:
        return len(self._ranges)

    def within(self, first: int, last: int) -> set[int]:
        """Those from `first` to `last`, both inclusive, that are in the ranges."""
        found: set[int] = set()
        for start, end in (ends for ends, _ in self._ranges):
            found.update(range(max(first, start), min(last, end) + 1))
        return found

    def add(self, first: int, last: int, reason: str) -> None:
        if self._ranges:
            ends, why = self._ranges[-1]
            if why == reason and ends[1] + 1 == first:
                ends[1] = last
                return
        if len(self._ranges) < _RANGES_MAX:
            self._ranges.append(([first, last], reason))
        else:
            self._more[1] += last - first + 1
            self._more[0] = max(self._more[0], last)

    def until(self, last: int) -> tuple[list[Lost], int]:
        """Ranges up to and including `last`, sorted, and how many sequences more were lost."""
        found = [Lost(first, min(end, last), why) for (first, end), why in self._ranges if first <= last]
        return merged(found), self._more[1] if self._more[0] <= last else 0

    def stated(self, last: int) -> None:
        """Forget what `until(last)` returned."""
        # The garbage collector may call `add` in between. It finds a new list, which is kept; what stays of the old one
        # is put before it in one step.
        ranges, self._ranges = self._ranges, []
        kept = [([max(first, last + 1), end], why) for (first, end), why in ranges if end > last]
        self._ranges[:0] = kept
        more = self._more
        if more[0] <= last:
            more[0] = more[1] = 0


def merged(ranges: Iterable[Lost]) -> list[Lost]:
    """Sorted, neighbours with the same reason put together."""
    result: list[Lost] = []
    for r in sorted(ranges, key=lambda lost: (lost.first, lost.last)):
        if result and result[-1].reason == r.reason and r.first <= result[-1].last + 1:
            result[-1] = Lost(result[-1].first, max(r.last, result[-1].last), r.reason)
        else:
            result.append(r)
    return result


class Ledger:
    """Makes a process's statements, numbered and without gaps between their ranges."""

    def __init__(self, *, process: str, host: str, service: str, started: int) -> None:
        self._process = process
        self._host = host
        self._service = service
        self._started = started
        self.losses = Losses()
        self.policy: str | None = None
        self._tree = Tree()
        self._is_tree_whole = True  # it began with the first record of the next statement
        self._made_last = 0
        self._previous: str | None = None
        self.number = 0
        self.last = 0
        self.watermark = 0

    def recorded(self, leaves: Iterable[bytes]) -> None:
        """Records are in the journal; `leaves` are their hashes, in its order."""
        for leaf in leaves:
            self._tree.append(leaf)

    def doubt(self) -> None:
        """A turn failed, so `recorded` may have missed a record or got one twice. The next statement has no root: a
        wrong one would look as if records had been changed."""
        self._is_tree_whole = False

    def chained(self, statement: Statement) -> Statement:
        """The statement with the digest of the one that was written before it."""
        return replace(statement, previous=self._previous)

    def make(self, seen: Tally, closed: Closed = "") -> list[Statement]:
        """Statements that cover everything up to `seen.last`. Nothing changes here until `written` is called."""
        lost, more = self.losses.until(seen.last)
        # Each sequence in the range is in the journal, in `lost`, or counted in `more`.
        watermark = seen.now if seen.recent_oldest is None else min(seen.now, seen.recent_oldest)
        first = self.last + 1
        statement = Statement(
            process=self._process,
            number=self.number + 1,
            at=seen.now,
            first=first,
            last=seen.last,
            count=seen.last - first + 1 - _inside(lost, first) - more,
            lost=lost,
            lost_more=more,
            excluded=seen.excluded,
            unwaited=seen.unwaited,
            open_count=seen.open_count,
            open_oldest=seen.open_oldest,
            open_long=seen.open_long,
            open_long_newest=seen.open_long_newest,
            open_accounts=_largest(seen.open_of if closed else seen.open_long_of),
            watermark=max(self.watermark, watermark),
            closed=closed,
            clock_steps=seen.clock_steps,
            host=self._host,
            service=self._service,
            started=self._started,
            root=self._tree.root().hex() if self._is_tree_whole else None,
            policy=self.policy,
        )
        self._made_last = seen.last
        return split(statement, watermark_before=self.watermark)

    def written(self, statements: Sequence[Statement], data: bytes = b"") -> None:
        """These are in the journal (`data`: the last of them): their losses are stated now."""
        latest = statements[-1]
        # After only a part of a split range, it is not known which leaves belong to it.
        self._is_tree_whole = latest.last >= self._made_last
        if self._is_tree_whole:
            self._tree = Tree()
        self._previous = statement_digest(data) if data else None
        self.number = latest.number
        self.last = latest.last
        self.watermark = latest.watermark
        self.losses.stated(latest.last)


def split(statement: Statement, *, watermark_before: int) -> list[Statement]:
    """The same as several statements when its losses are too many for one. Numbers continue from its own; the last has
    its W and `closed`, the earlier ones promise no more than was promised before."""
    if len(statement.lost) <= _RANGES_EACH:
        return [statement]
    parts: list[Statement] = []
    first = statement.first
    chunks = [statement.lost[i : i + _RANGES_EACH] for i in range(0, len(statement.lost), _RANGES_EACH)]
    for i, lost in enumerate(chunks):
        is_final = i == len(chunks) - 1
        last = statement.last if is_final else max(first - 1, lost[-1].last)
        more = statement.lost_more if is_final else 0
        parts.append(
            replace(
                statement,
                number=statement.number + i,
                first=first,
                last=last,
                count=last - first + 1 - _inside(lost, first) - more,
                lost=lost,
                lost_more=more,
                watermark=statement.watermark if is_final else watermark_before,
                closed=statement.closed if is_final else "",
                open_accounts=statement.open_accounts if is_final else [],
                root=None,
            )
        )
        first = last + 1
    return parts


def _largest(counts: Mapping[str, int]) -> list[OpenOf]:
    """The accounts with the most open exchanges. Those of the others count for every reader."""
    named = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_ACCOUNTS_MAX]
    return [OpenOf(account, count) for account, count in named]


def policy_of(settings: Settings) -> str:
    """The settings that decide what is captured, as one line."""
    return _POLICY_TEXT({name: getattr(settings, name) for name in _POLICY})


def policy_digest(policies: Iterable[str]) -> str:
    """One digest for all middlewares of a process: of our version and the `policy_of` each."""
    return hashlib.sha256("\n".join([__version__, *sorted(policies)]).encode()).hexdigest()


def _inside(lost: Sequence[Lost], first: int) -> int:
    """How many of these sequences are not below `first`."""
    return sum(r.last - max(r.first, first) + 1 for r in lost if r.last >= first)
