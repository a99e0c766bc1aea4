"""The grammar of JSON: valid, and cut at the end.

Where the usual case allows it the decision falls near the alarm: a scalar behind its key, a text that holds a secret by
its own form. A tree is made only where context is needed: containers under a sensitive name, labels, tables, GraphQL
variables, cut documents. Of the tree only what holds an alarm is visited.

A cut document is closed where it ends. What a name that was cut off might have told about is masked: a `value` beside a
label that did not come yet, `rows` without their `columns`, `variables` without their query.
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
