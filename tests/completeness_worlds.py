"""`python -m tests.completeness_worlds --worlds 2000 [--seed N] [--turns 300]`: many worlds of `support.completeness`,
and a count of the events in them."""

from __future__ import annotations

import argparse
import random as randomness
import sys
import time
from collections import Counter
from random import Random

from asgi_audit.indexing.completeness import RecordEvent
from tests.support.completeness import IDLE, Proc, World

_SKEWS = (0, 0, 0, 0, 0, 0, 0, 7_200_000, -7_200_000, -30_000)
_PROCS_MAX = 8


def turn(world: World) -> None:
    random = world.random
    alive = [p for p in world.procs if p.is_alive]
    dead = [p for p in world.procs if not p.is_alive and not p.is_ended]
    if random.random() < 0.7:
        world.advance(random.choice((0, 1, 5, 20, 20, 200, 1000, 5_000)))
    what = random.random()
    if what < 0.003:
        _sleep(world)
    elif what < 0.006:
        _go_on(world, 130_000)
    elif not alive or what < 0.03:
        _start(world)
    elif what < 0.04 and len(alive) > 1:
        world.kill(random.choice(alive))
    elif what < 0.06 and dead:
        world.adopt(random.choice(dead))
    elif what < 0.09:
        _reach(world, random.choice(world.procs))
    elif what < 0.10:
        _destroy(world, random.choice(world.procs))
    elif what < 0.12:
        world.send_again(random.choice(world.procs))
    elif what < 0.123:
        world.purge(world.now - random.choice((0, 10_000, 200_000)))
    elif what < 0.15:
        _broker(world)
    elif what < 0.155:
        _set_clock(world)
    elif what < 0.158:
        world.make_index_anew()
    elif what < 0.165:
        p = random.choice(alive)
        world.state(p, "provisional")
    elif what < 0.60:
        _serve(world, random.choice(alive))
    elif what < 0.72:
        world.forward(random.choice(world.procs), random.choice((1, 3, 1000)))
    else:
        if random.random() < 0.7:
            world.take_fence()
        crash = "before" if what < 0.735 else "after" if what < 0.75 else ""
        world.step(random.choice((1, 3, 10, 1000)), crash)


def _start(world: World) -> None:
    random = world.random
    if len(world.procs) >= _PROCS_MAX:
        return
    p = world.start(skew=random.choice(_SKEWS), is_cut_off=random.random() < 0.3)
    if random.random() < 0.7:
        world.begin(p)
    if random.random() < 0.7:
        world.state(p)
        world.forward(p)


def _serve(world: World, p: Proc) -> None:
    random = world.random
    what = random.random()
    if p.is_asleep:
        return
    if what < 0.4:
        world.begin(p)
    elif what < 0.7 and p.open:
        world.seal(p, random.choices(("kept", "lost", "excluded"), (20, 1, 1))[0])
    elif what < 0.8:
        world.write(p, random.choice((1, 2, 1000)))
    else:
        world.state(p)


def _reach(world: World, p: Proc) -> None:
    """Hosts are cut off and return; forwarders restart, perhaps to another partition; disks are lost."""
    random = world.random
    what = random.random()
    if what < 0.5:
        p.is_cut_off = not p.is_cut_off
        p.was_cut_off = p.was_cut_off or p.is_cut_off
    elif what < 0.7:
        p.partition = random.choice(list(world.partitions))
        p.was_cut_off = p.was_cut_off or not world.partitions[p.partition].has_leader
        world.send_again(p)
    elif what < 0.75 and not p.is_alive:
        p.disk_is_gone = True
    elif p.is_alive:
        p.is_asleep = not p.is_asleep
        p.was_cut_off = True


def _destroy(world: World, p: Proc) -> None:
    """An unsent record in the journal is permanently damaged."""
    at = world.random.randrange(p.sent, len(p.journal)) if p.sent < len(p.journal) else -1
    if at >= 0 and isinstance(p.journal[at], RecordEvent):
        e = p.journal.pop(at)
        del p.epochs[at]
        assert isinstance(e, RecordEvent)
        p.destroyed.add(e.sequence)
        world.counts["records destroyed"] += 1


def _broker(world: World) -> None:
    random = world.random
    name = random.choice(list(world.partitions))
    partition = world.partitions[name]
    what = random.random()
    if what < 0.15 and len(world.partitions) < 5:
        world.add_partition()
        world.counts["partitions added"] += 1
    elif what < 0.3:
        partition.begin = random.randrange(partition.begin, len(partition.entries) + 1)
    elif what < 0.35 and not partition.has_leader:
        world.give_up(name)
    elif name not in world.tracker.lost_partitions:  # what is permanently lost does not return for a moment
        partition.has_leader = not partition.has_leader
        for p in world.procs:
            p.was_cut_off = p.was_cut_off or p.partition == name


def _set_clock(world: World) -> None:
    random = world.random
    if random.random() < 0.5:
        world.ahead = random.choice((0, 0, 500, 7_200_000, -7_200_000))
        world.counts["steps of the indexer's clock"] += 1
    else:
        world.set_clock(random.choice(world.procs), random.choice(_SKEWS))
        world.counts["steps of a process's clock"] += 1


def _sleep(world: World) -> None:
    """The whole machine sleeps, or the indexer alone."""
    if world.random.random() < 0.5:
        world.advance(world.random.choice((30_000, 300_000)))
    else:
        for p in world.procs:  # their clocks continue, they do not
            p.stated_at += 300_000
            p.was_cut_off = True
        world.now += 300_000


def _go_on(world: World, ms: int, most: int = 1000) -> None:
    """Time passes while the indexer works."""
    end = world.now + ms
    while world.now < end:
        world.advance(min(5_000, end - world.now))
        for p in world.procs:
            world.forward(p)
        world.take_fence()
        world.step(most)
        world.step(most)


def come_to_an_end(world: World) -> None:
    """Brokers respond, clocks are right; some journals are found, some never. T must arrive."""
    random = world.random
    world.ahead = 0
    for partition in world.partitions.values():
        partition.has_leader = True
    for p in world.procs:
        world.set_clock(p, 0)
        p.is_asleep = p.is_cut_off = False
    gone = [p for p in world.procs if not p.is_alive and not p.is_ended]
    for p in gone:
        if p.disk_is_gone or random.random() < 0.3:
            p.disk_is_gone = True
        else:
            world.adopt(p)
    # A step of the indexer's clock is believed after ten minutes; a process that is gone holds T for 150 s.
    _go_on(world, 630_000 if world.counts["steps of the indexer's clock"] else 150_000, 100_000)
    _arrived(world)
    if random.random() < 0.5:  # no process is active any more
        for p in world.procs:
            if p.is_alive:
                while p.open:
                    world.seal(p, "kept")
                world.state(p, "final")
                p.is_alive, p.is_ended = False, True
        _go_on(world, 130_000, 100_000)
        _arrived(world)
        _nothing_is_left(world)


def _arrived(world: World) -> None:
    store = world.store
    stated = [p for p in world.procs if p.process in store.heard]
    if not stated:
        return
    # A statement that no longer waits for it may be on its way.
    young = any(world.clock(p) - e.begun < 75_000 for p in world.procs if p.is_alive for e in p.open)
    until = store.until()
    assert until is not None, "T is not known"
    assert until >= world.now - (75_000 if young else IDLE + 5_000), f"T is {world.now - until} ms behind"
    alive = {p.id for p in world.procs if p.is_alive or p.is_ended}
    late = [i for i in store.open_incidents() if i.kind == "late" and i.process in alive]
    # A claim that was too early because a clock was ahead is resolved when that time has come.
    assert not [i for i in late if i.end is None or i.end < world.now - 75_000], late


def _nothing_is_left(world: World) -> None:
    store = world.store
    if any(p.begin for p in world.partitions.values()):
        return  # records removed by retention may be missing
    there = {p.id: p for p in world.procs if not p.disk_is_gone}
    destroyed = {(p.id, n) for p in there.values() for n in p.destroyed if (p.process, n) not in store.records}
    left = [i for i in store.open_incidents() if i.process in there]
    named = {(i.process, n) for i in left if i.kind == "missing" for a, b in i.ranges for n in range(a, b + 1)}
    assert named <= destroyed, (named - destroyed, left)
    assert not any(i.kind == "altered" for i in store.all_incidents())


def run(seed: int, turns: int) -> Counter[str]:
    random = Random(seed)
    world = World(random, partitions=random.choice((1, 2, 3)), is_append_time=random.random() < 0.5)
    for _ in range(turns):
        turn(world)
    come_to_an_end(world)
    return world.counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None, help="of the first world; the others follow it")
    arguments = parser.parse_args()
    seed = randomness.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.worlds} worlds of {arguments.turns} turns", flush=True)
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    for n in range(arguments.worlds):
        try:
            counts += run(seed + n, arguments.turns)
        except AssertionError as e:
            print(f"world {n} failed: --worlds 1 --turns {arguments.turns} --seed {seed + n}\n{e}", file=sys.stderr)
            return 1
    for what, count in sorted(counts.items()):
        print(f"{count:12,} {what}")
    print(f"{arguments.worlds} worlds in {time.perf_counter() - began:.0f} s: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
