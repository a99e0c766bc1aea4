"""An operator's rules of paths (`redact_paths`): which segments to mask."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from ..settings.masking import own_path

__all__ = ["PathRules"]


class PathRules:
    """An operator's templates of paths, found by one of their fixed segments."""

    def __init__(self, templates: Iterable[str]) -> None:
        self._by_segment: dict[bytes, list[tuple[int, tuple[bytes | None, ...]]]] = {}
        for template in templates:
            rule = tuple(None if s is None else unquote_to_bytes(s) for s in own_path(template))
            at, fixed = next((at, s) for at, s in enumerate(rule) if s is not None and s != b"*")
            self._by_segment.setdefault(fixed, []).append((at, rule))

    def __bool__(self) -> bool:
        return bool(self._by_segment)

    def masked(self, segments: list[bytes]) -> set[int]:
        """Places of the segments to mask. segments: decoded."""
        found: set[int] = set()
        for at, segment in enumerate(segments):
            for before, rule in self._by_segment.get(segment, ()):
                begin = at - before
                asked = segments[begin : begin + len(rule)] if begin >= 0 else []
                if len(asked) == len(rule) and all(
                    wanted is None or wanted == b"*" or wanted == given
                    for wanted, given in zip(rule, asked, strict=True)
                ):
                    found.update(begin + k for k, wanted in enumerate(rule) if wanted is None)
        return found
