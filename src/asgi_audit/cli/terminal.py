"""Escapes output for terminals: records and errors contain data of clients, which must not control the terminal.

Used by every command: `guarded()` wraps standard output and standard error in a stream that writes each character of
`UNSAFE` as `\\uXXXX`. In JSON such characters occur only in strings, where `\\uXXXX` means the same, so printed JSON
stays valid and equal. Lone surrogates, and characters missing in the stream's encoding, are escaped too: printing never
fails because of the text.

Newline and tab are not escaped: a command that prints one line per item removes newlines from the item first.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

__all__ = ["UNSAFE", "escaped", "guarded", "one_line", "raise_if_unread", "raw_stream", "rewrite_line"]

# C0 except newline and tab, DEL, C1, lone surrogates; marks, embeddings, overrides and isolates of bidirectional text
# (UAX #9), line and paragraph separator, deprecated format characters, interlinear annotations, tags.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_ERRORS = "asgi_audit.escaped"


def escaped(text: str) -> str:
    """`text` with `\\uXXXX` for each character that could control a terminal; two of them above U+FFFF."""
    return UNSAFE.sub(lambda found: _escape(found[0]), text)


def one_line(text: str) -> str:
    """`escaped`, with each run of white space as one blank, so that the text stays on one line."""
    return escaped(" ".join(text.split()))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Wraps standard output and standard error in `_Guarded` until the block ends. What is written to one that was
    closed before the program started is discarded."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout, sys.stderr = (cast("TextIO", _Guarded(stream or nowhere)) for stream in before)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def rewrite_line(text: str) -> None:
    """Replaces the current line of standard error by `text`."""
    raw = raw_stream(sys.stderr)
    raw.write("\r" + escaped(text))
    raw.flush()


def raw_stream(stream: TextIO) -> TextIO:
    """The stream behind a guarded one, for callers that escape each text and control the terminal on purpose."""
    return stream.stream if isinstance(stream, _Guarded) else stream


def raise_if_unread() -> None:
    """Raises BrokenPipeError when standard output is a pipe or socket without a reader. A waiting command would
    otherwise notice this only at its next output."""
    try:
        number = raw_stream(sys.stdout).fileno()
    except (OSError, ValueError, AttributeError):
        return  # no file: a test's, or closed
    looked = select.poll()
    looked.register(number, 0)  # errors and hang-ups are always reported
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in looked.poll(0)):
        raise BrokenPipeError


class _Guarded:
    """A text stream whose `write` escapes; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream: TextIO = stream.stream if isinstance(stream, _Guarded) else stream

    def write(self, text: str) -> int:
        shown = escaped(text)
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
            shown = shown.encode(encoding, _ERRORS).decode(encoding)
        self.stream.write(shown)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _escape(character: str) -> str:
    data = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[i]:02x}{data[i + 1]:02x}" for i in range(0, len(data), 2))


def _unencodable(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escape, error.object[error.start : error.end])), error.end


codecs.register_error(_ERRORS, _unencodable)
