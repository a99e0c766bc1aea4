"""Print a script that completes commands, flags and words in a shell.

eval "$(asgi-audit completion bash)"                          in ~/.bashrc
asgi-audit completion zsh > ~/.zfunc/_asgi-audit              in a directory of $fpath
asgi-audit completion tcsh > ~/.asgi-audit.csh
"""

from __future__ import annotations

import argparse

from ..wiring.environment import extra

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(arguments: argparse.Namespace) -> int:
    with extra():
        import shtab

    from . import whole_parser

    print(shtab.complete(whole_parser(), shell=arguments.shell))
    return 0
