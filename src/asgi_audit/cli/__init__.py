"""The command `asgi-audit`: one module per subcommand, imported when it is called.

Exit codes: 0 done, 1 failed, 2 wrong arguments or settings, 70 a bug in asgi-audit, 130 interrupted, 141 the reader of
standard output is gone. Errors are one line on standard error.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, NoReturn

from .. import __version__
from ..addresses import without_passwords
from ..errors import AuditError, ConfigError, sentences
from ..settings import meant
from ..wiring.environment import EXTRAS, extra
from .logs import configure, is_json
from .terminal import guarded, one_line

__all__ = ["COMMANDS", "MODULES", "guarded_run", "main"]

COMMANDS = {
    "demo": "see asgi-audit work in half a minute, with a real application",
    "serve": "serve queries over HTTP, and index the journal",
    "index": "index records from the journal or from Kafka (the sidecar)",
    "export": "run the exports requested through the API; `serve` does this too",
    "forward": "send the journals of applications to Kafka",
    "topics": "create the Kafka topic, or explain how it differs",
    "ask": "query who called what, in the index of this machine or through an API",
    "tail": "show the newest records; needs no server and no key",
    "completeness": "show until when the index is complete, and what is missing",
    "purge": "permanently remove the days before a date from the index",
    "reindex": "rebuild days that an earlier version indexed, so that every filter works for them",
    "dead-letters": "show messages that could not be indexed, and try again",
    "backup": "back up the index while it is in use",
    "restore": "restore an index from a backup",
    "doctor": "check journal, Kafka, index and settings, and say what to do",
    "keys": "create, list and revoke the keys that queries need",
    "schema": "print the JSON Schema of a record",
    "completion": "print a script that completes commands and flags in a shell",
}
_TRACEBACK = "ASGI_AUDIT_TEST_TRACEBACK"
MODULES = {name: f".{name}" for name in COMMANDS} | {
    "ask": ".ask.command",
    "dead-letters": ".dead_letters",
    "demo": ".demo.command",
    "doctor": ".doctor.command",
}


def missing_extras() -> list[str]:
    """Names of extras with a missing package, except the demo's, which only the demo reports."""
    return sorted({extra for package, extra in EXTRAS.items() if "," not in extra and find_spec(package) is None})


class _Parser(argparse.ArgumentParser):
    words: Sequence[str] = ()  # of the command line: errors may quote them, and one may be an address
    made: ClassVar[list[_Parser]] = []  # this parser and those of the commands

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.made.append(self)

    def error(self, message: str) -> NoReturn:
        """Prints one line, as for every other error, with a suggestion for a misspelled word."""
        known = set(re.findall(r"--[a-z-]+", " ".join(p.format_help() for p in self.made)))
        unknown = [word for word in self.words if re.fullmatch(r"--[a-z-]+", word) and word not in known]
        if unknown:  # the words after it were parsed wrongly
            message = f"unrecognized arguments: {unknown[0]}"
        shown = one_line(without_passwords(message, self.words)) + self._meant(message)
        print(f"asgi-audit: {shown}; `{self.prog} --help` shows what is accepted", file=sys.stderr)
        raise SystemExit(2)

    def _meant(self, message: str) -> str:
        if unknown := re.match(r"unrecognized arguments: (--[a-z-]+)", message):
            return meant(unknown[1], re.findall(r"--[a-z-]+", " ".join(p.format_help() for p in self.made)))
        if choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            return meant(choice[1], re.findall(r"[a-z-]+", choice[2]))
        return ""


def whole_parser() -> argparse.ArgumentParser:
    """The parser with the arguments of all commands."""
    return _parser(*COMMANDS)


def _parser(*imported: str | None) -> argparse.ArgumentParser:
    """The parser with the arguments of the commands `imported`."""
    lines = "\n".join(f"  {name:12} {help}" for name, help in COMMANDS.items())
    parser = _Parser(
        prog="asgi-audit",
        usage="asgi-audit COMMAND [options]",
        description=f"The audit trail of ASGI applications.\n\ncommands:\n{lines}",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"asgi-audit {__version__}")
    is_whole = len(imported) > 1  # the completion generator skips commands without help
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", help="what to do" if is_whole else argparse.SUPPRESS
    )
    # Import only the module of the called command: `tail` must start without the server's packages.
    for name, help in COMMANDS.items():
        module = import_module(MODULES[name], __name__) if name in imported else None
        sub = commands.add_parser(
            name,
            prog=f"asgi-audit {name}",
            help=help,
            description=(module.__doc__ or "").strip() if module else help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if module is not None:
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def _epilog() -> str:
    lines = ["`asgi-audit COMMAND --help` explains a command."]
    for name in missing_extras():
        lines.append(f"The extra {name!r} is not installed: pip install 'asgi-audit[{name}]'")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; argparse exits by itself for `--help` and wrong arguments. All output
    and logs are escaped for terminals."""
    with guarded():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = next((a for a in arguments if a in COMMANDS), None)

    def run() -> int:
        _Parser.words, _Parser.made = arguments, []
        parser = _parser(command)
        parsed = parser.parse_args(arguments)
        if parsed.command is None:
            parser.print_help()
            return 0
        configure(getattr(parsed, "setting_log_format", None))
        with extra():
            code: int = parsed.run(parsed)
        return code

    return guarded_run(run)


def guarded_run(run: Callable[[], int]) -> int:
    """The result of `run`, or the exit code of its exception, which is printed as one line."""
    try:
        try:
            return run()
        finally:
            sys.stdout.flush()
    except ConfigError as e:
        return _fail(e, 2)
    except AuditError as e:
        return _fail(e, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Otherwise the interpreter reports an error when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as e:
        return _fail(f"{e.strerror or e}{f': {e.filename}' if e.filename else ''}", 1)
    except Exception as e:
        if os.environ.get(_TRACEBACK):
            raise
        return _fail(f"a bug in asgi-audit, {type(e).__name__}: {e}; {_TRACEBACK}=1 shows where", 70)


def _fail(error: AuditError | str, code: int) -> int:
    hint = error.hint if isinstance(error, AuditError) else ""
    message = without_passwords(str(error))
    if is_json():
        logging.getLogger("asgi_audit").error("%s", message, extra={"fields": {"hint": hint} if hint else {}})
        return code
    print("asgi-audit: " + one_line(sentences(message, hint)), file=sys.stderr)
    return code
