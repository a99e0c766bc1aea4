"""Inputs that are made to be slow for the packages that search untrusted bytes, `encoding` and `redaction`.

Expressions are found by introspection and parsed by the standard library's own parser. For each, attacks repeat a part
(`fragment`) after its beginning (`prefix`) and end in a near miss (`end`): this makes a search backtrack, or begin
again at each byte. Everything is seeded.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import asgi_audit.encoding
import asgi_audit.redaction
from tests.support.machine import processor_time, uncollected

ROOMS = (asgi_audit.encoding, asgi_audit.redaction)

SIZE = 65_536
REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
_METHODS = {"match", "fullmatch", "search", "sub", "findall", "split", "finditer"}
_ANY = "aZ0 \"'\\,:=.<>[]{}/-_%&@\n\t;("
_CATEGORIES = {
    codes.CATEGORY_SPACE: " \t\n", codes.CATEGORY_NOT_SPACE: 'aZ0"', codes.CATEGORY_DIGIT: "019",
    codes.CATEGORY_NOT_DIGIT: "a ", codes.CATEGORY_WORD: "aZ0_", codes.CATEGORY_NOT_WORD: ' ."',
}  # fmt: skip


class Expression(NamedTuple):
    name: str  # module and name in it
    pattern: re.Pattern[Any]
    methods: frozenset[str]  # called by the package


class Attack(NamedTuple):
    prefix: str
    fragment: str
    end: str

    def text(self, size: int = SIZE) -> str:
        room = size - len(self.prefix) - len(self.end)
        return self.prefix + self.fragment * max(1, room // len(self.fragment)) + self.end

    def data(self, size: int = SIZE) -> bytes:
        return self.text(size).encode("latin-1", "replace")


def modules() -> list[Any]:
    return [
        importlib.import_module(m.name)
        for room in ROOMS
        for m in pkgutil.walk_packages(room.__path__, room.__name__ + ".")
    ]


def expressions() -> list[Expression]:
    """Every compiled expression of the package, once: also in containers, and those of which only a method is kept."""
    found: dict[tuple[Any, int], Expression] = {}
    called = _called()
    for module in modules():
        for name, value in vars(module).items():
            for pattern, method in _patterns(value):
                methods = {method} if method else called.get(name, set()) & _METHODS
                full = f"{module.__name__.rpartition('.')[2]}.{name}"
                found.setdefault(
                    (pattern.pattern, pattern.flags), Expression(full, pattern, frozenset(methods or {"finditer"}))
                )
    return list(found.values())


def _patterns(value: Any, depth: int = 0) -> Iterator[tuple[re.Pattern[Any], str]]:
    if isinstance(value, re.Pattern):
        yield value, ""
    elif isinstance(owner := getattr(value, "__self__", None), re.Pattern):
        yield owner, value.__name__
    elif depth < 4 and isinstance(value, (dict, list, tuple, set, frozenset)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _patterns(part, depth + 1)


def _called() -> dict[str, set[str]]:
    """By name, its attributes that the package's sources read."""
    out: dict[str, set[str]] = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                out.setdefault(node.value.id, set()).add(node.attr)
    return out


def sources() -> list[Path]:
    return sorted(path for room in ROOMS for path in Path(room.__path__[0]).rglob("*.py"))


def parsed(pattern: re.Pattern[Any]) -> Any:
    return parser.parse(pattern.pattern, pattern.flags)


def inside(code: Any, argument: Any) -> list[Any]:
    """The sequences inside one item of a parsed expression."""
    if code in REPEATS:
        return [argument[2]]
    if code is codes.BRANCH:
        return list(argument[1])
    if code is codes.SUBPATTERN:
        return [argument[-1]]
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return [argument[1]]
    return [argument] if code is codes.ATOMIC_GROUP else []


def _sequences(sequence: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], list[Any]]]:
    items = list(sequence)
    yield before, items
    for at, (code, argument) in enumerate(items):
        for inner in inside(code, argument):
            yield from _sequences(inner, (*before, *items[:at]))


def _members(items: Any) -> str:
    out = ""
    for code, argument in items:
        if code is codes.LITERAL:
            out += chr(argument)
        elif code is codes.RANGE:
            out += chr(argument[0]) + chr(argument[1])
        elif code is codes.CATEGORY:
            out += _CATEGORIES[argument]
    if items[0][0] is not codes.NEGATE:
        return out
    return "".join(c for c in _ANY if c not in out) or "x"


def _sample(sequence: Any, rng: random.Random, *, long: bool = False) -> str:
    """A text that the sequence matches, or nearly."""
    out = ""
    for code, argument in sequence:
        if code is codes.LITERAL:
            out += chr(argument)
        elif code is codes.NOT_LITERAL:
            out += rng.choice(_ANY.replace(chr(argument), ""))
        elif code is codes.ANY:
            out += rng.choice(_ANY)
        elif code is codes.IN:
            out += rng.choice(_members(argument))
        elif code in REPEATS:
            least, most, inner = argument
            most = min(int(most), least + 300)
            times = rng.choice([least, min(least + 1, most), min(least + 2, most), most if long else least])
            out += "".join(_sample(inner, rng) for _ in range(times))
        elif (inner := inside(code, argument)) and (
            code not in (codes.ASSERT, codes.ASSERT_NOT) or rng.random() < (0.6 if code is codes.ASSERT else 0.3)
        ):
            out += _sample(rng.choice(inner), rng, long=long)
    return out


def attacks(pattern: re.Pattern[Any], rng: random.Random, number: int) -> Iterator[Attack]:
    """From the expression's own structure: parts of it repeated, after their beginning, before a near miss."""
    sequences = [pair for pair in _sequences(parsed(pattern)) if pair[1]]
    for _ in range(number):
        before, items = rng.choice(sequences)
        first = rng.randrange(len(items))
        last = rng.randrange(first, len(items))
        lead = (*before, *items[:first])
        fragment = _sample(items[first : last + 1], rng, long=rng.random() < 0.4)
        if rng.random() < 0.3:
            fragment += rng.choice(_ANY)
        if rng.random() < 0.3:
            fragment = _sample(lead, rng) + fragment
        prefix = _sample(lead, rng) if rng.random() < 0.7 else ""
        end = _sample(items[last + 1 :], rng)[:-1] + rng.choice(["", "\0", "!", "\n", '"'])
        if fragment:
            yield Attack(prefix, fragment, end if rng.random() < 0.7 else "")


# Beginnings and ends of bodies: something sensitive, so that everything is searched, in every kind of document.
_BEGIN = [
    "", "password: x\n", '{"password":"x","a":"', '["', '[{"loc":["password"],"input":"', "password=hunter2&",
    '<input name="password" value="x">', "- password\n- x1\n", "id,password\n1,x\n", '{"a":[', "https://u:p@h/ ",
    "eyJhbGciOi.abc.def ", "<a password ", '{"a":{"b":"password: x', '{"columns":["password"],"rows":[["', "[[",
]  # fmt: skip
_END = ["", '"}', '"]', "]}", '"}]', "\n", '">', "]]", "]]}", '"]]}']
_WORDS = [
    *"\"'\\,:=.<>[]{}/-_%&@\n\t;( ", "password", '"password":', '"a":', '"a",', "\\u0070", "%70", "%2570", '\\"', "\\n",
    '{"a":1},', "[1],", "null,", "pin:", "is 1x2y3z4 ", "4111 1111 1111 1111 ", "eyJabcdefgh.", '"x":"y",',
    '{"password":1},', '["password","x"],', '"a":{"password":', '"password"', '"aa",', "password\n", "pin\n", "\r\n",
    "password: x9\n", '"password":"abc123xyz9",', '{"password":"x"}\n', "<b>password</b>", '<a b="password">', "a=b&",
    "password=%41&", "token%3Dx&", "é", '{"name":"password","value":"x"},', '"', '\\\\"', "&#x61;", "&#112;",
]  # fmt: skip
TYPES = [
    b"text/plain", b"application/json", b"application/x-www-form-urlencoded", b"text/html", b"", b"text/csv",
    b"application/x-ndjson",
]  # fmt: skip


def words(number: int = 20) -> list[str]:
    """Units of attack on whole bodies: the fragments of all expressions, and parts of documents."""
    rng = random.Random(5)
    found = set(_WORDS)
    for expression in expressions():
        for attack in attacks(expression.pattern, rng, number):
            found.update(part for part in attack if 0 < len(part) < 60)
    return sorted(found)


def body(rng: random.Random, units: list[str]) -> Attack:
    unit = "".join(rng.choice(units) for _ in range(rng.choice([1, 1, 2, 2, 3, 4])))
    return Attack(rng.choice(_BEGIN), unit, rng.choice(_END))


# Time


def longest_call(expression: Expression, text: Any) -> float:
    """Seconds of processor time of the longest call into the expression, of those that the package makes."""
    empty = text[:0]
    calls: list[Callable[[], object]] = []
    for method in expression.methods - {"finditer"}:
        bound = getattr(expression.pattern, method)
        calls.append(
            (lambda b: lambda: b(empty, text))(bound) if method == "sub" else (lambda b: lambda: b(text))(bound)
        )
    longest = max((processor_time(call) for call in calls), default=0.0)
    if "finditer" in expression.methods:
        matches = expression.pattern.finditer(text)
        with uncollected():
            begun = time.thread_time()
            for number, _ in enumerate(matches):
                if number % 64 == 63:  # the clock costs as much as a match
                    now = time.thread_time()
                    longest = max(longest, now - begun)
                    begun = now
            longest = max(longest, time.thread_time() - begun)
    return longest
