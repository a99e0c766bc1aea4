"""Print the JSON Schema (draft 2020-12) of a record, version 1.0."""

from __future__ import annotations

import argparse
import json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> int:
    from ..record.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0
