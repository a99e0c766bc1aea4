"""The grammar of JSON: valid, and cut at the end.

The usual cases are decided near the alarm, without a tree: a scalar after its key, or a text that contains a secret by
form. A tree is built only when context is needed: containers under a sensitive name, labels, tables, GraphQL variables,
cut documents. Only parts of the tree with an alarm are visited.

A cut document is closed where it ends. A value is masked when a name that was cut off might make it a secret: a `value`
whose label is missing, `rows` without their `columns`, `variables` without their query.
"""

from __future__ import annotations

import re

from .alarms import Alarm
from .json_near import near_edits
from .json_tree import parse
from .json_walk import Walk
from .layers import Edit
from .names import NO
from .record import Record

__all__ = ["json_edits", "may_need_partner"]

_NEAR_MAX = 2_000  # alarms
_PARTNER = re.compile(rb'"(?:value|values|val|answer|input|inputValue|default|rows|variables|params|bindings)\\{0,7}"')


def may_need_partner(data: bytes) -> bool:
    """Whether a cut document has a value whose name may have been cut off."""
    return _PARTNER.search(data) is not None


def json_edits(
    record: Record, data: bytes, alarms: list[Alarm], depth: int, base: str, *, cut: bool = False
) -> list[Edit] | None:
    """Edits of a JSON document; None when it is broken. base: paths are noted when it is not empty."""
    if not cut and len(alarms) <= _NEAR_MAX:
        edits = near_edits(record, data, alarms, depth, base)
        if edits is not None:
            return edits
    root = parse(record, data, cut)
    if root is None:
        return None
    walk = Walk(record, data, alarms, depth)
    walk.visit(root, NO, base)
    return walk.edits
