"""Print the JSON Schema (draft 2020-12) of a record, version 1.0.

asgi-audit schema                of a record
asgi-audit schema --statement    of a statement, in which a process reports its records, in the same topic
"""

from __future__ import annotations

import argparse
import json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--statement", action="store_true", help="the schema of a statement instead of a record")


def run(arguments: argparse.Namespace) -> int:
    from ..record.schema import json_schema
    from ..record.statement_schema import statement_schema

    print(json.dumps(statement_schema() if arguments.statement else json_schema(), indent=2))
    return 0
