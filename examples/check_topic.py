"""An independent consumer of the topic: it reads all present messages, and checks records against the
statements of their processes. It uses nothing of asgi-audit; docs/formats.md describes what it checks.

    python -m examples.check_topic localhost:9092 audit-records

Exit code 0: everything matches; 1: something does not, and a printed line says what.
"""

import asyncio
import hashlib
import json
import sys
from typing import Any

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]

KIND = "asgi-audit-kind"
HEADS = {b'{"statement":': "statement", b'{"loss":': "loss"}


def kind_of(headers: Any, value: bytes) -> str:
    """`record`, `statement` or `loss`. Messages of version 0.1.0 have no header: then the first bytes decide."""
    for name, found in headers:
        if name == KIND:
            return str(found.decode())
    return next((kind for head, kind in HEADS.items() if value.startswith(head)), "record")


def merkle_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1; `leaves`: their hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1  # the largest power of two below their number
    return hashlib.sha256(b"\x01" + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()


class Process:
    """Everything read of one process."""

    def __init__(self, name: str, is_whole: bool) -> None:
        self.name = name
        self.is_whole = is_whole  # nothing was removed from the topic, so its first statement must be there
        self.leaves: dict[int, bytes] = {}  # of the sequences after `last`
        self.last = 0  # highest sequence that a statement covers
        self.number = 0  # of the last statement
        self.digest = ""  # of its bytes
        self.records = self.duplicates = self.lost = self.checked = 0
        self.problems: list[str] = []

    def take(self, sequence: int, leaf: bytes, *, is_loss: bool) -> None:
        if is_loss and sequence <= self.last:
            return  # a loss after its statement was read; its record, which came before, has been checked
        if sequence <= self.last or sequence in self.leaves:
            self.duplicates += 1  # sent twice, because the first response of the broker was lost
            return
        self.leaves[sequence] = leaf
        self.lost += is_loss
        self.records += not is_loss

    def hear(self, said: dict[str, Any], value: bytes) -> None:
        if said["number"] <= self.number:
            self.duplicates += 1
            return
        follows = said["number"] == self.number + 1
        if not follows and (self.number or self.is_whole):
            self.problems.append(f"statements {self.number + 1} to {said['number'] - 1} are missing")
        if self.number and follows and said["previous"] and said["previous"] != self.digest:
            self.problems.append(f"statement {said['number']} does not follow the statement that was read before it")
        if follows:
            self.cover(said)
        # Otherwise the beginning of the topic or a statement is gone, and this statement cannot be checked.
        self.number, self.last = said["number"], max(self.last, said["last"])
        self.digest = hashlib.sha256(value).hexdigest()
        self.leaves = {sequence: leaf for sequence, leaf in self.leaves.items() if sequence > self.last}

    def cover(self, said: dict[str, Any]) -> None:
        covered = range(said["first"], said["last"] + 1)
        lost = {n for first, last, _reason in said["lost"] for n in covered if first <= n <= last}
        missing = [n for n in covered if n not in self.leaves and n not in lost]
        self.lost += sum(last - first + 1 for first, last, _reason in said["lost"]) + said["lost_more"]
        if len(missing) > said["lost_more"]:
            self.problems.append(f"sequences {missing[0]} to {missing[-1]}: {len(missing)} records are missing")
        elif said["root"] is not None and not missing:
            self.checked += 1
            root = merkle_root([self.leaves[n] for n in covered if n in self.leaves])
            if root.hex() != said["root"]:
                number = said["number"]
                self.problems.append(f"records {covered[0]} to {covered[-1]} are not those of statement {number}")


class Check:
    """Everything read of the topic."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.is_whole = True  # every partition begins at offset 0
        self.foreign = 0  # records of producers that count no sequences: nothing to check

    def process(self, name: str) -> Process:
        return self.processes.setdefault(name, Process(name, self.is_whole))

    def take(self, headers: Any, value: bytes) -> None:
        kind, said = kind_of(headers, value), json.loads(value)
        if kind == "statement":
            self.process(said["process"]).hear(said, value)
        elif kind == "loss":
            self.process(said["process"]).take(said["sequence"], bytes.fromhex(said["leaf"]), is_loss=True)
        elif kind == "record":
            capture = said.get("context", {}).get("capture")
            if capture is None:
                self.foreign += 1
            else:
                leaf = hashlib.sha256(b"\x00" + value).digest()
                self.process(capture["process"]).take(capture["sequence"], leaf, is_loss=False)


async def read(servers: str, topic: str, check: Check) -> None:
    """Everything from the beginning of each partition to where it ends now. No consumer group is needed."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = consumer.assignment()  # all of the topic, because there is no group
        check.is_whole = not any((await consumer.beginning_offsets(partitions)).values())
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                for message in messages:
                    check.take(message.headers, message.value or b"")
    finally:
        await consumer.stop()


def main(servers: str, topic: str) -> int:
    check = Check()
    asyncio.run(read(servers, topic, check))
    for one in check.processes.values():
        open_end = f", {len(one.leaves)} not stated yet" if one.leaves else ""
        print(
            f"process {one.name}: {one.records} records, {one.duplicates} duplicates, {one.lost} lost, "
            f"{one.number} statements, {one.checked} roots checked{open_end}"
        )
        for problem in one.problems:
            print(f"  WRONG: {problem}")
    if check.foreign:
        print(f"{check.foreign} records of other producers, which nothing states")
    return int(any(one.problems for one in check.processes.values()))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
