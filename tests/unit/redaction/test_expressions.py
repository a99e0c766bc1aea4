"""Every compiled expression of the modules that search untrusted bytes: none backtracks over its input, and none
requires a Python newer than that of Debian 12.

Goal: a hostile body of 64 KiB holds the interpreter's lock, and with it the application's event loop, for at most 5 ms.
Method: the expressions are found by introspection. Inputs are made from the structure of each and grown from 6 KiB,
where quadratic time already shows, to 64 KiB; the thread's processor time is measured. Thousands of inputs for each:
`make adversarial`.
"""

from __future__ import annotations

import ast
import random
import re
import zlib
from re import _constants as codes  # type: ignore[attr-defined]
from typing import Any

import pytest
from tests.support.adversarial import (
    REPEATS,
    SIZE,
    Attack,
    Expression,
    attacks,
    expressions,
    inside,
    longest_call,
    parsed,
    sources,
)
from tests.support.machine import within

from asgi_audit.redaction import multisearch
from asgi_audit.redaction.names import STEMS

LONGEST_SECONDS = 0.005
SMALL = 6_000
# Inputs that the module itself bounds before it searches: a segment of a path, a value, a name.
BOUNDED = {
    "forms._CHANGE": 4_096,
    "forms._CARD_CUT": 40,
    "lines._KEY": 4_000,
    "markup._LABEL": 400,
    "lines._PAIR": 300,
    "values._OPTION": 160,
    "paths._TOKEN_WORD": 80,
    "values._STOP": 8_000,
    "names._STEM": 200,
    "names._HARMLESS": 200,
    "names._GLUED": 200,
    "forms._USER_CUT": 400,
    "text._PLACES.search": 200,  # what is before a name
    "text._PLACES_BEFORE": 200,
    "text._KEY_LABEL": 20,
    "surroundings._YOUR_CODE": 70,
    "surroundings._NO_CODE": 12,
    "surroundings._SENT_BEHIND": 70,
    "surroundings._SENT_BEFORE": 70,
    "surroundings._PARENT": 64,
}
_ONE = (codes.LITERAL, codes.NOT_LITERAL, codes.IN, codes.ANY)


def test_expressions_are_found() -> None:
    names = {name for e in expressions() for name in (e.name, *(f"{e.name}.{method}" for method in e.methods))}
    assert {"text._SAYS", "grid._CELLS", "builder._REQUEST_ID", "markup._ATTRIBUTE", "forms._AT"} <= names
    assert names >= BOUNDED.keys()


def worst(expression: Expression, number: int, seed: int) -> tuple[float, Attack | None]:
    """Returns the seconds of the longest call, and its input."""
    names = [expression.name, *(f"{expression.name}.{method}" for method in expression.methods)]
    size = min(BOUNDED.get(name, SIZE) for name in names)
    is_text = isinstance(expression.pattern.pattern, str)
    rng = random.Random(zlib.crc32(expression.name.encode()) + seed)

    def measure(attack: Attack, size: int) -> float:
        return longest_call(expression, attack.text(size) if is_text else attack.data(size))

    small = [(measure(a, min(SMALL, size)), a) for a in attacks(expression.pattern, rng, number)]
    found: tuple[float, Attack | None] = (0.0, None)
    for cost, attack in sorted(small, key=lambda pair: -pair[0])[:3]:
        if cost >= 0.05:
            cost = within(lambda a=attack: measure(a, min(SMALL, size)), LONGEST_SECONDS)  # type: ignore[misc]
        if cost < 0.05:  # otherwise 64 KiB would take minutes
            cost = within(lambda a=attack: measure(a, size), LONGEST_SECONDS)  # type: ignore[misc]
        found = max(found, (cost, attack), key=lambda pair: pair[0])
        if found[0] > LONGEST_SECONDS:
            break
    return found


@pytest.mark.parametrize("expression", expressions(), ids=lambda e: e.name)
def test_expression_takes_no_longer_than_a_scan_when_attacked(expression: Expression) -> None:
    seconds, attack = worst(expression, 60, 1)
    assert seconds <= LONGEST_SECONDS, f"{expression.name}: {seconds * 1e3:.1f} ms of {attack!r}"


def test_scan_without_ahocorasick_takes_no_longer_when_attacked() -> None:
    """The expression that replaces the extra `fast` when that is not installed."""
    needle = re.compile(multisearch.alternation(stem for stem in STEMS if stem.isascii()).encode())
    seconds, attack = worst(Expression("multisearch", needle, frozenset({"finditer"})), 60, 1)
    assert seconds <= LONGEST_SECONDS, f"{seconds * 1e3:.1f} ms of {attack!r}"


# Before CPython 3.11.5 a possessive or atomic group may match wrongly: `re.match(r"(?:ab?c)?+", "ab")` gives `a`.
_GROUP = re.compile(r"(?<!\()\)(?:[*+?]|\{[0-9,]*\})\+|\(\?>")


def test_no_possessive_group_in_source() -> None:
    found = []
    for path in (file for file in sources()[0].parents[1].rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
                text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
                if _GROUP.search(re.sub(r"\\.|\[\^?(?:\\.|[^\]\\])*\]", "x", text)):
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []


def _possessive(sequence: Any) -> bool:
    for code, argument in sequence:
        if code is codes.ATOMIC_GROUP:
            return True
        if code is codes.POSSESSIVE_REPEAT and (len(argument[2]) != 1 or argument[2][0][0] not in _ONE):
            return True
        if any(_possessive(inner) for inner in inside(code, argument)):
            return True
    return False


def test_no_possessive_group_in_compiled_expressions() -> None:
    """Including expressions that are assembled from parts."""
    assert REPEATS
    assert [e.name for e in expressions() if _possessive(parsed(e.pattern))] == []


def test_possessive_group_is_found() -> None:
    assert _possessive(parsed(re.compile(r"(?:ab?c)?+")))
    assert _possessive(parsed(re.compile(r"x(?>ab)")))
    assert not _possessive(parsed(re.compile(r"[ab]*+c{2}+")))
