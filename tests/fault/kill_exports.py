"""kill -9 of a real exporter while it writes: `python -m tests.fault.kill_exports --times 20`.

Goal: the object holds every record once, byte for byte, whatever the moments of the kills. Method: an index of many
records; `asgi-audit export` is killed at a random moment after it has written more, and started again; some kills
happen at its start, when it reads the part again. At the end the object is compared with the indexed records.

Prints the seed and the figures; exit code 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.support.export_home import Home

from asgi_audit.control.exports import ENDED


def run(times: int, number: int, seed: int, directory: Path) -> bool:
    """Whether everything is right."""
    print(f"kill_exports: seed {seed}, {times} kills, {number} records")
    rng = random.Random(seed)
    home = Home(directory, number, seed)
    killed = 0
    try:
        export = home.ask()
        for n in range(times):
            child = home.start()
            try:
                before = home.get(export)
                if before.state in ENDED:
                    break
                # The moment of the kill is an input: sometimes at the start, mostly during its work.
                if n % 5 == 4:
                    time.sleep(rng.uniform(0.2, 0.8))
                else:
                    written = before.progress.records if before.progress else 0
                    step = (number - written) // (times - n + 1)
                    home.wait(export, child, written + rng.randrange(step + 1))
                    time.sleep(rng.uniform(0.0, 0.02))
            finally:
                child.kill()
                child.wait()
            killed += home.get(export).state not in ENDED
        child = home.start()
        try:
            home.wait(export, child)
        finally:
            child.kill()
            child.wait()
        faults = home.faults(export)
        for fault in faults:
            print(f"wrong: {fault}")
        left = sorted(p.name for p in (directory / "exports").iterdir() if p.suffix == ".part")
        print(f"{killed} kills before it had ended; parts left: {left}; {'WRONG' if faults or left else 'right'}")
        return not faults and not left and killed > 0
    finally:
        home.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="asgi-audit-kill-") as directory:
        return 0 if run(options.times, options.records, options.seed, Path(directory)) else 1


if __name__ == "__main__":
    sys.exit(main())
