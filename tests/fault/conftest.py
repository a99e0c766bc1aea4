"""Fixtures of the fault tests."""

from tests.e2e.conftest import small_disk

__all__ = ["small_disk"]
