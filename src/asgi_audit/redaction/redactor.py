"""The only face of this room: whoever wants another redaction (an operator's names, a compiled twin) comes in here.

    redactor = Redactor(["tax_number"])
    record = redactor.record()                      # one for each record
    data, known = record.body(data, b"application/json", "request.body", cut=False, valid=True)
    record.header(redactor.header_kind("referer"), b"https://…")
    record.redacted                                 # the paths, and the values for the search in the whole record

Invariants: nothing here raises for any bytes (what fails is omitted), and nothing remembers a value. One redactor per
builder; not thread safe. All work is bounded by the record's budget (see `record`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ..settings.masking import own_name
from .budget import Budget, TooCostly
from .fields import header_kind, mask_header
from .forms import own_secret
from .judge import Judge
from .layers import splice
from .names import Names
from .pairs import pairs_edits
from .paths import PathRules, may_hide, path_edits
from .record import MASK
from .scan import Scan
from .sequences import multipart_fields

__all__ = ["RecordRedactor", "Redactor"]

log = logging.getLogger("asgi_audit")
_LOOKED_AT = 65_536
_told: set[str] = set()  # kinds of errors that were logged


class Redactor:
    """names: of fields and headers to mask beside the built-in ones. forms: expressions of secrets. paths: templates of
    paths with a segment to mask. What each may be: `settings.masking`, whose ValueError is raised here."""

    def __init__(self, names: Iterable[str] = (), forms: Iterable[str] = (), paths: Iterable[str] = ()) -> None:
        own = tuple(own_name(name) for name in names)
        own_forms = tuple(own_secret(form) for form in forms)
        self.names = Names(own)
        self.scan = Scan(self.names, own, own_forms)
        self.rules = PathRules(paths)

    def record(self) -> RecordRedactor:
        return RecordRedactor(self.names, self.scan, self.rules)

    def header_kind(self, name: str) -> int:
        """How a header of this lower-case name is treated, for `RecordRedactor.header`."""
        return header_kind(name, self.names)

    def alarms(self, data: bytes) -> bool:
        """Whether a sensitive name or a known form may stand in these bytes: without, they may be kept as they are."""
        try:
            return bool(self.scan.alarms(data, Budget()))
        except TooCostly:
            return True

    def clean(self, data: bytes) -> bool:
        """Whether this text is kept as it is."""
        return self.record().text(data) == data


class RecordRedactor(Judge):
    """The redaction of one record. `redacted`: its paths (a list), and the values that were masked."""

    __slots__ = ()

    def header(self, kind: int, value: bytes) -> bytes:
        """A header's value as it may be kept; the very same object when nothing was masked. Latin-1."""
        return self._safely(lambda: mask_header(self, kind, value)) or MASK

    def path_may_hide(self, path: str) -> bool:
        """Whether `path` may change it: the most are kept as they are for one short search."""
        return may_hide(path) is not None or self.scan.has_own_forms or bool(self.rules)

    def path(self, path: bytes) -> bytes:
        kept = self._safely(lambda: splice(path, path_edits(self, path)))
        return b"/" + MASK if kept is None else kept

    def query(self, raw: bytes, base: str) -> bytes:
        """A query or form as received, the rest of it byte for byte."""
        kept = self._safely(lambda: splice(raw, pairs_edits(self, raw, 0, base)))
        if kept is None:
            self.note(base)
            return MASK + b"=" + MASK
        return kept

    def text(self, text: bytes) -> bytes:
        """A text that an application gave: a message, a name."""
        kept = self._safely(lambda: splice(text, self.inner(text, 0)))
        return MASK if kept is None else kept

    def body(
        self, data: bytes, content_type: bytes, base: str, *, cut: bool = False, valid: bool = False
    ) -> bytes | None:
        """A body (UTF-8) with its secrets masked; None: it must be omitted. content_type: in lower case. valid: it is
        JSON, and stays so."""
        kept = self._safely(lambda: self.document(data, content_type, base, cut=cut, valid=valid))
        if kept is None:
            self.note(base)
        return kept

    def _safely(self, masked: Callable[[], bytes]) -> bytes | None:
        """What `masked` returns; None when that would cost too much, or fails: what is looked at is omitted then."""
        try:
            return masked()
        except (TooCostly, RecursionError):
            return None
        except Exception as error:
            if type(error).__name__ not in _told and len(_told) < 20:  # a log line for each kind, not for each record
                _told.add(type(error).__name__)
                tb = error.__traceback__
                while tb is not None and tb.tb_next is not None:
                    tb = tb.tb_next
                where = f"{tb.tb_frame.f_code.co_name}:{tb.tb_lineno}" if tb is not None else "?"
                # The error's own text may repeat what was looked at.
                log.warning("a value was left out: its redaction failed (%s in %s)", type(error).__name__, where)
            return None

    def leave_out(self, data: bytes, content_type: bytes) -> None:
        """A body is left out of the record: the secrets in it are searched for in the rest."""
        if content_type.startswith(b"multipart/"):
            self._safely(lambda: multipart_fields(self, data, content_type))
        else:
            self._safely(lambda: splice(data[:_LOOKED_AT], self.inner(data[:_LOOKED_AT], 0)))
