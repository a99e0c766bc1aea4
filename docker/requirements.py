"""Prints the requirements of some extras of a pyproject.toml, and of building the project: one a line.

python docker/requirements.py pyproject.toml all        the dependencies alone
python docker/requirements.py pyproject.toml all build  and what builds the wheel
"""

import re
import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, *wanted: str) -> list[str]:
    """`wanted`: names of extras; `build`: those of the build system. Extras of the project itself are followed."""
    content = tomllib.loads(pyproject.read_text())
    project = content["project"]
    ours = re.compile(re.escape(project["name"]) + r"\[([^\]]+)\]")
    found = list(project["dependencies"])
    waiting = list(wanted)
    while waiting:
        extra = waiting.pop()
        if extra == "build":
            found += content["build-system"]["requires"]
            continue
        for requirement in project["optional-dependencies"][extra]:
            if inner := ours.fullmatch(requirement):
                waiting += [name.strip() for name in inner[1].split(",")]
            else:
                found.append(requirement)
    return sorted(set(found))


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), *sys.argv[2:])))
