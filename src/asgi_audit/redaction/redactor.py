"""The only interface of this package; it takes an operator's names, forms and paths.

    redactor = Redactor(["tax_number"], [r"acme_[a-z0-9]{32}"], ["/share/{token}"])
    record = redactor.record()                      # one for each record
    kept = record.body(data, b"application/json", "request.body", cut=False, valid=True)
    record.header(redactor.header_kind("referer"), b"https://…")
    record.redacted                                 # the paths of what was masked
    record.masked                                   # the values, for the search in the whole record

Invariants: no input makes it raise (a value that fails is omitted), and no value is remembered between records. One
redactor per builder; not thread-safe. All work is bounded by the record's budget (see `record`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ..settings.masking import own_name
from .budget import Budget, TooCostly
from .fields import header_kind, mask_header
from .forms import own_secret
from .judge import Judge
from .layers import splice
from .multipart import hide_fields
from .names import Names
from .pairs import pairs_edits
from .path_rules import PathRules
from .paths import may_hide, path_edits
from .record import MASK
from .scan import NotText, Scan

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
        """How to treat a header with this lower-case name, for `RecordRedactor.header`."""
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
    """The redaction of one record. `redacted`: the paths of what was masked. `masked`: the values."""

    __slots__ = ()

    def header(self, kind: int, value: bytes) -> bytes:
        """A header's value with its secrets masked; the same object when nothing was masked. Latin-1."""
        try:
            return mask_header(self, kind, value) or MASK
        except Exception as error:
            _left_out(error)
            return MASK

    def path_may_hide(self, path: str) -> bool:
        """Whether `path` may change it: the most are kept as they are for one short search."""
        return may_hide(path) or self.scan.has_own_forms or bool(self.rules)

    def path(self, path: bytes) -> bytes:
        try:
            return splice(path, path_edits(self, path))
        except Exception as error:
            _left_out(error)
            return b"/" + MASK

    def query(self, raw: bytes, base: str) -> bytes:
        """A query or form as received, the rest of it byte for byte."""
        try:
            return splice(raw, pairs_edits(self, raw, 0, base))
        except Exception as error:
            self.note(base)
            _left_out(error)
            return MASK + b"=" + MASK

    def text(self, text: bytes) -> bytes:
        """A text that an application gave: a message, a name."""
        try:
            return splice(text, self.inner(text, 0))
        except Exception as error:
            _left_out(error)
            return MASK

    def body(
        self, data: bytes, content_type: bytes, base: str, *, cut: bool = False, valid: bool = False
    ) -> bytes | None:
        """A body (UTF-8) with its secrets masked; None: it must be omitted, or has control characters and is no text.
        content_type: in lower case. valid: it is JSON, and stays so."""
        try:
            return self.document(data, content_type, base, cut=cut, valid=valid)
        except NotText:
            return None
        except Exception as error:
            self.note(base)
            _left_out(error)
            return None

    def leave_out(self, data: bytes, content_type: bytes) -> None:
        """A body is left out of the record: the secrets in it are searched for in the rest."""
        try:
            if content_type.startswith(b"multipart/"):
                hide_fields(self, data, content_type)
            else:
                self.inner(data[:_LOOKED_AT], 0)
        except Exception as error:
            _left_out(error)


def _left_out(error: Exception) -> None:
    """What is looked at costs too much, or its redaction failed: it is left out, and the kind of an error is logged."""
    name = type(error).__name__
    if isinstance(error, (TooCostly, RecursionError)) or name in _told or len(_told) >= 20:
        return  # a log line for each kind, not for each record
    _told.add(name)
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    where = f"{tb.tb_frame.f_code.co_name}:{tb.tb_lineno}" if tb is not None else "?"
    # The error's own text may repeat what was looked at.
    log.warning("a value was left out: its redaction failed (%s in %s)", name, where)
