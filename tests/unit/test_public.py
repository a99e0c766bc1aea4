"""The public names of the package, and its version."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

import asgi_audit

ROOT = Path(__file__).parents[2]
SOURCE = Path(asgi_audit.__file__).parent
MODULES = sorted(
    "asgi_audit." + ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.name not in ("__main__.py", "__init__.py")
)


def test_public_names_all_exist_and_are_all_there_is() -> None:
    assert asgi_audit.__all__ == sorted(asgi_audit.__all__, key=lambda n: (n[0] != "A", n[0] != "C", n))
    for name in asgi_audit.__all__:
        assert getattr(asgi_audit, name) is not None
    assert {"AuditMiddleware", "install", "annotate", "current", "ConfigError"} <= set(asgi_audit.__all__)
    assert set(asgi_audit._WHERE) == set(asgi_audit.__all__) - {"__version__"}


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        asgi_audit.nothing  # noqa: B018


@pytest.mark.parametrize("module", MODULES)
def test_all_is_explicit_and_true_in_every_module(module: str) -> None:
    loaded = import_module(module)
    assert hasattr(loaded, "__all__"), f"{module} has no __all__"
    missing = [name for name in loaded.__all__ if not hasattr(loaded, name)]
    assert not missing
    assert loaded.__doc__, f"{module} does not say what it is for"


def test_version_is_the_same_in_package_metadata_and_changelog() -> None:
    top = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert top is not None
    assert top[1] == asgi_audit.__version__
    assert re.search(rf'^version = "{re.escape(asgi_audit.__version__)}"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert metadata.version("asgi-audit") == asgi_audit.__version__


def test_importing_the_package_loads_nothing_else_of_ours() -> None:
    code = "import asgi_audit, sys; print(sorted(m for m in sys.modules if m.startswith('asgi_audit.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
