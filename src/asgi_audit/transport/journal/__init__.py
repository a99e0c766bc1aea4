"""The journal: a directory in which every record is written ahead. What other rooms use of it stands here."""

from __future__ import annotations

from .follow import follow
from .source import JournalSource
from .stat import ProcessJournal, look
from .writer import JournalWriter

__all__ = ["JournalSource", "JournalWriter", "ProcessJournal", "follow", "look"]
