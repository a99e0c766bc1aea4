"""The checks of settings. A check takes a value from code, environment or command line, and returns the value to use.

Each check is a function of the value. It raises `Wrong`, whose text describes the accepted values.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import addresses
from ..errors import ConfigError
from . import masking

__all__ = [
    "Check", "Wrong", "account", "address", "algorithms", "boolean", "bucket", "choice", "claim", "group", "header",
    "host", "hosts", "instance", "journal", "jwks", "meant", "name", "names", "optional_choice", "optional_path",
    "optional_port", "optional_url", "path", "redact_forms", "redact_names", "redact_paths", "regions", "roles",
    "seconds", "setting", "text", "transport", "whole",
]  # fmt: skip

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/%-]{0,500})?"
)
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9!_.()/-]{0,500})?")
_INSTANCE = re.compile(r"[^/\x00-\x1f]{1,200}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]")

Check = Callable[[Any], Any]


class Wrong(ValueError):
    """`str(e)` describes the accepted values. `words`: accepted words to compare with `word` (by default the value) for
    a suggestion."""

    def __init__(self, accepted: str, words: Sequence[str] = (), *, word: str | None = None) -> None:
        super().__init__(accepted)
        self.words = words
        self.word = word


def setting(default: Any, check: Check, help: str, *, secret: bool = False, only: str = "") -> Any:
    """A field of the table. `only`: its only user, 'middleware' or 'server'; '' means both."""
    return dataclasses.field(default=default, metadata={"check": check, "help": help, "secret": secret, "only": only})


def meant(word: object, accepted: Iterable[str]) -> str:
    """`; did you mean …?` with the accepted word that `word` resembles, or ''."""
    by_lower = {a.lower(): a for a in accepted}
    close = difflib.get_close_matches(str(word).strip().lower()[:100], by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise Wrong("1 or 0, true or false, yes or no, on or off", ("true", "false", "yes", "no", "on", "off"))


def whole(low: int, high: int, unit: str = "") -> Check:
    accepted = f"a whole number from {low:,} to {high:,}".replace(",", "_") + (f" ({unit})" if unit else "")

    def check(value: Any) -> int:
        try:
            if isinstance(value, bool):
                raise ValueError
            number = value if isinstance(value, int) else int(str(value).strip())
        except ValueError:
            raise Wrong(accepted) from None
        if not low <= number <= high:
            raise Wrong(accepted)
        return number

    return check


def seconds(low: float, high: float) -> Check:
    accepted = f"seconds from {low:g} to {high:g}"

    def check(value: Any) -> float:
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
        except (TypeError, ValueError):
            raise Wrong(accepted) from None
        if not low <= number <= high:
            raise Wrong(accepted)
        return number

    return check


def choice(*accepted: str) -> Check:
    def check(value: Any) -> str:
        if value not in accepted:
            raise Wrong("one of " + ", ".join(accepted), accepted)
        return str(value)

    return check


def optional_choice(*accepted: str) -> Check:
    def check(value: Any) -> str:
        return "" if value is None or value == "" else str(choice(*accepted)(value))

    return check


def name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Wrong("1 to 64 letters, digits, dots, underscores and hyphens")
    return value


def account(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 200 or not value.isprintable() or value == "*":
        raise Wrong("1 to 200 printable characters, not '*'")
    return value


def instance(value: Any) -> str:
    if not isinstance(value, str) or not _INSTANCE.fullmatch(value) or value in (".", ".."):
        raise Wrong("1 to 200 characters without '/' and control characters, not '.' or '..'")
    return value


def header(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", value):
        raise Wrong("a header name, or nothing to leave responses untouched")
    return value.lower()


def path(value: Any) -> Path:
    # An address is not a path: taken for one, it would create a directory of that name, including its password.
    if not isinstance(value, (str, Path)) or not str(value) or "://" in str(value):
        raise Wrong("a path")
    return Path(value)


def optional_path(value: Any) -> Path | None:
    return None if value is None or value == "" else path(value)


def address(*, of_path: str, **shown: str) -> Check:
    """A check for an address of one of these schemes, or ''. `shown`: {scheme: its form in error messages}. A plain
    path becomes an address of the scheme `of_path`."""
    accepted = " or ".join(dict.fromkeys(["a path", *shown.values()]))

    def check(value: Any) -> str:
        if value is None or value == "":
            return ""
        if _is_plain_path(value):
            value = f"{of_path}:///{value}"
        scheme = addresses.scheme_of(value) if isinstance(value, str) else ""
        if scheme not in shown:
            raise Wrong(accepted, tuple(shown), word=scheme)
        try:
            addresses.parse(value)
        except ConfigError:
            hint = "; user and password are separate settings" if "@" in value and "kafka" in scheme else ""
            raise Wrong(addresses.ACCEPTED[scheme] + hint) from None
        return str(value)

    return check


def _is_plain_path(value: Any) -> bool:
    """False for a bare scheme name, and for anything that may be an address without its scheme."""
    if isinstance(value, Path):
        return True
    return isinstance(value, str) and not set(":@?#\0") & set(value) and value.strip().lower() not in addresses.ACCEPTED


_TOPIC = "kafka://host:port[,host:port]/topic"
transport = address(of_path="journal", journal="journal:///path", memory="memory://", kafka=_TOPIC, kafkas=_TOPIC)


def journal(value: Any) -> Path | None:
    """A path or an address of a directory."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and addresses.scheme_of(value) == "journal":
        return addresses.url_path(address(of_path="journal", journal="journal:///path")(value))
    return path(value)


def text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value or len(value) > 1000:
        raise Wrong("at most 1000 characters")
    return value


def host(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._:%-]{1,255}", value):
        raise Wrong("an address or a host name, such as 127.0.0.1, 0.0.0.0 or ::1")
    return value


def hosts(value: Any) -> tuple[tuple[str, str], ...]:
    """(host in lower case, word) of each `host=word`. A host may have several words."""
    wrong = Wrong("host=dialect, separated by commas, such as usage.example.com=usage")
    found = _pairs(value, wrong)
    if not all(_HOST.fullmatch(name) and word for name, word in found):
        raise wrong
    return tuple((name.lower(), word) for name, word in found)


def regions(value: Any) -> tuple[tuple[str, str], ...]:
    """(group, region) of each `group=region`."""
    wrong = Wrong("group=region, separated by commas, each group once, such as us-std=global,eu-std=eu,classic=*")
    found = _pairs(value, wrong)
    for group, region in found:
        if not _NAME.fullmatch(group) or not (region == "*" or _NAME.fullmatch(region)):
            raise wrong
    if len(dict(found)) != len(found):
        raise wrong
    return tuple(found)


def _pairs(
    value: Any, wrong: Wrong, split: Callable[[str, str], tuple[str, str, str]] = str.partition
) -> list[tuple[str, str]]:
    """The pairs of `name=word`, separated by commas, or of a mapping. `split`: splits at the first or last `=`.
    Raises `wrong`."""
    if isinstance(value, str):
        value = [split(part.strip(), "=")[::2] for part in value.split(",") if part.strip()]
    elif isinstance(value, Mapping):
        value = list(value.items())
    if not isinstance(value, (list, tuple)):
        raise wrong
    for pair in value:
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise wrong
    return [(name.strip(), word.strip()) for name, word in value]


ROLES = ("reader", "auditor")
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a public key. Never `none`, and never HS256: its key would be the published one."""
_LOCAL = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\])(?:[:/].*)?")
_CLAIM = re.compile(r"[\x21-\x7e]{1,200}")


def jwks(value: Any) -> str:
    """A URL, or a path as text; '' for none."""
    if value is None or value == "":
        return ""
    if isinstance(value, Path) or (isinstance(value, str) and "://" not in value):
        return str(path(value))
    if (
        not isinstance(value, str)
        or not _URL.fullmatch(value)
        or not (value.startswith("https://") or _LOCAL.fullmatch(value))
    ):
        raise Wrong("an https:// URL without user and query, an http:// URL of this machine, or a path")
    return value


def algorithms(value: Any) -> tuple[str, ...]:
    given = names(value)
    for one in given:
        if one not in ALGORITHMS:
            raise Wrong(f"{', '.join(ALGORITHMS)}, separated by commas", ALGORITHMS, word=one)
    return tuple(dict.fromkeys(given))


def claim(value: Any) -> str:
    if not isinstance(value, str) or not _CLAIM.fullmatch(value):
        raise Wrong("the name of a claim, or its path with dots, such as realm_access.roles")
    return value


def roles(value: Any) -> tuple[tuple[str, str], ...]:
    """(the issuer's name, role) of each `name=role`; a name may contain `=`."""
    wrong = Wrong("name=role, separated by commas, such as audit-admins=auditor,staff=reader", ROLES)
    found = _pairs(value, wrong, str.rpartition)
    if not all(name and role in ROLES for name, role in found) or len(dict(found)) != len(found):
        raise wrong
    return tuple(found)


def optional_url(value: Any) -> str:
    """`http://…` or `https://…`, without trailing slash, query and user; '' for none."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise Wrong("a URL, such as https://audit.example.com or https://example.com/audit, without user and query")
    return value.rstrip("/")


def bucket(value: Any) -> str:
    """`s3://bucket` or `s3://bucket/prefix`, without trailing slash; '' for none."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not _BUCKET.fullmatch(value):
        raise Wrong("s3://bucket or s3://bucket/prefix")
    return value.rstrip("/")


def optional_port(value: Any) -> int | None:
    return None if value is None or value == "" else int(whole(0, 65_535)(value))


def group(value: Any) -> int | None:
    """The number of a group, given by name or number."""
    if value is None or value == "":
        return None
    accepted = "the name or the number of a group of this machine"
    if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
        if not isinstance(value, bool) and 0 <= int(value) < 1 << 32:
            return int(value)
        raise Wrong(accepted)
    import grp

    try:
        return grp.getgrnam(value).gr_gid
    except (KeyError, TypeError, ValueError):
        raise Wrong(accepted) from None


def _texts(what: str, mark: str, one: Callable[[str], object], most: int = 200) -> Check:
    """A check for several texts that each pass `one`. In a single string they are separated by `mark`, or by white
    space when `mark` is ''."""
    separated = f"{what}, separated by {'commas' if mark else 'white space'}"

    def check(value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(mark or None) if part.strip()]
        if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(v, str) and v for v in value):
            raise Wrong(separated)
        if len(value) > most:
            raise Wrong(f"at most {most} {what}")
        for number, text in enumerate(value, 1):
            try:
                one(text)
            except ValueError as e:
                raise Wrong(f"{separated}; of number {number}: {e}") from None
        return tuple(value)

    return check


redact_names = _texts("names", ",", masking.own_name)
redact_forms = _texts("expressions", "", masking.own_form, 100)
redact_paths = _texts("paths", ",", masking.own_path, 100)


def names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(v, str) and v for v in value):
        raise Wrong("names, separated by commas")
    return tuple(value)
