"""The journal: a directory in which every record is written first. This package exports what other rooms use."""

from __future__ import annotations

from .follow import follow
from .source import JournalSource
from .stat import ProcessJournal, look
from .writer import JournalWriter

__all__ = ["JournalSource", "JournalWriter", "ProcessJournal", "follow", "look"]
