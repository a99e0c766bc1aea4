"""`make adversarial`: thousands of inputs that are made to be slow, for each expression and for whole records.

The tests under `unit/redaction` try a few of them in every run. Exits with 1 when something was slower than they allow,
and prints it.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys

from tests.support.adversarial import expressions, words


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.adversarial", description=__doc__)
    parser.add_argument("--expressions", type=int, default=2_000, help="inputs for each expression")
    parser.add_argument("--records", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    options = parser.parse_args(argv)
    print(f"seed {options.seed}")
    each = importlib.import_module("tests.unit.redaction.test_expressions")
    whole = importlib.import_module("tests.unit.redaction.test_redaction_work")
    failed = 0
    for expression in expressions():
        seconds, attack = each.worst(expression, options.expressions, options.seed)
        if seconds > each.LONGEST_SECONDS:
            failed += 1
            print(f"{expression.name}: {seconds * 1e3:.1f} ms of {attack!r}", flush=True)
    units = words()
    for seed in range(options.seed, options.seed + options.records):
        if slow := whole.too_slow(seed, units):
            failed += 1
            print(slow, flush=True)
    print(f"{len(expressions())} expressions × {options.expressions}, {options.records} records: {failed} too slow")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
