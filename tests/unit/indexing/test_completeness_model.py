"""Random histories of processes, crashes, losses, delays, late journals and repeats, against an oracle that knows them.

Method: a seeded world takes random steps; after each commit of the indexer the oracle looks at every exchange that
began before T. At the end all that can still come comes, and T must arrive. A failure names its seed."""

from __future__ import annotations

from random import Random

from hypothesis import example, given
from hypothesis import strategies as st
from tests.support_completeness import Proc, World

from asgi_audit.indexing.completeness import Seen
from asgi_audit.store.base import FOLLOW_MS

_SKEWS = (0, 0, 0, 0, 0, 0, 7_200_000, -7_200_000)


def turn(world: World) -> None:
    random = world.random
    alive = [p for p in world.procs if p.is_alive]
    dead = [p for p in world.procs if not p.is_alive and not p.is_ended]
    world.now += random.choice((0, 1, 5, 20, 20, 200, 1000, 10_000))
    what = random.random()
    if what < 0.002:
        world.now += random.choice((30_000, 70_000, 130_000))
    elif what < 0.006:
        for _ in range(15):  # long enough that whoever says nothing is written off
            world.now += 10_000
            for p in alive:
                if random.random() < 0.5:
                    world.state(p)
            world.step(1000)
    elif not alive or what < 0.02:
        if len(world.procs) < 6:
            p = world.start(skew=random.choice(_SKEWS))
            world.now += random.choice((0, 50, 5000))
            if random.random() < 0.7:
                world.state(p)
    elif what < 0.03 and len(alive) > 1:
        world.kill(random.choice(alive))
    elif what < 0.05 and dead:
        world.adopt(random.choice(dead))
    elif what < 0.07:
        p = random.choice(world.procs)
        p.is_held = not p.is_held
    elif what < 0.09:
        lose_an_entry(world, random.choice(world.procs))
    elif what < 0.10:
        p = random.choice(world.procs)
        p.log += p.kept_back
        p.kept_back = []
    elif what < 0.12:
        p = random.choice(world.procs)
        # Of what is forgotten nothing comes again, or all: a topic is read again from its beginning.
        at = 0 if world.is_forgotten(p) else random.randrange(len(p.log) + 1)
        p.is_read_again = p.is_read_again or world.is_forgotten(p)
        p.log += p.log if world.is_forgotten(p) else p.log[at : at + random.randrange(10)]
    elif what < 0.125:
        world.purge(world.now - random.choice((0, 10_000, 200_000)))
    elif what < 0.13 and alive:
        p = random.choice(alive)
        world.state(p, "provisional")
    elif what < 0.70 and alive:
        serve(world, random.choice(alive))
    else:
        crash = "before" if what < 0.72 else "after" if what < 0.75 else ""
        world.step(random.choice((1, 3, 10, 1000)), crash)


def serve(world: World, p: Proc) -> None:
    random = world.random
    what = random.random()
    if what < 0.4:
        world.begin(p)
    elif what < 0.7 and p.open:
        world.seal(p, random.choices(("kept", "lost", "excluded"), (20, 1, 1))[0])
    elif what < 0.8:
        world.write(p, random.choice((1, 2, 1000)))
    else:
        world.state(p)


def lose_an_entry(world: World, p: Proc) -> None:
    """An entry that the indexer has not seen yet goes away, for a while or for ever."""
    at = world.store.positions.get(p.process, 0)
    if at < len(p.log) and not p.is_read_again:
        e = p.log.pop(world.random.randrange(at, len(p.log)))
        if world.random.random() < 0.7:
            p.kept_back.append(e)
        elif isinstance(e, Seen):
            p.destroyed.add(e.sequence)
        else:
            p.kept_back.append(e)


def come_to_an_end(world: World) -> None:
    """Every process ends, every journal turns up."""
    for p in world.procs:
        p.is_held = False
        p.log += p.kept_back
        p.kept_back = []
        if p.is_alive and world.random.random() < 0.5:
            while p.open:
                world.seal(p, "kept")
            world.state(p, "final")
            p.is_alive, p.is_ended = False, True
        elif not p.is_ended:
            world.kill(p)
            world.adopt(p)
    for _ in range(3):
        world.now += FOLLOW_MS
        world.step(100_000)


@given(seed=st.integers(0, 2**32 - 1), turns=st.integers(10, 400))
@example(seed=1, turns=400)
def test_completeness_is_never_beyond_the_truth_and_gets_there(seed: int, turns: int) -> None:
    print(f"seed {seed}, turns {turns}")
    world = World(Random(seed))
    for _ in range(turns):
        turn(world)
    come_to_an_end(world)
    store = world.store
    # One second is left for processes that begin.
    assert store.published() == (world.now - FOLLOW_MS if world.procs else None)
    really_missing = {(p.name, n) for p in world.procs for n in p.destroyed if (p.process, n) not in store.records}
    kept = {(p.name, e.sequence) for p in world.procs for e in p.exchanges if e.begun >= store.horizon}
    left = [i for i in store.open_incidents() if i.end is None or i.end > store.horizon]
    named = {(i.process, n) for i in left if i.kind == "missing" for a, b in i.ranges for n in range(a, b + 1)}
    assert really_missing & kept <= named <= really_missing
    assert [i for i in left if i.kind != "missing"] == []
    world.purge(world.now + 10_000_000, is_a_day_later=True)
    assert not store.states, "nothing is kept of processes that are gone with their days"
    assert not store.incidents
    assert not any(i.kind == "altered" for i in store.all_incidents())
