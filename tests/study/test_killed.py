"""kill -9 at a hundred random moments of a study with several processes: no point is lost, none is repeated."""

from __future__ import annotations

import csv
import json
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.studies import OWN, POLICY, until, write_study
from tests.warm import Running, Warm, members

SEED = 20_261_130
KILLS, WORKERS = 100, 2
LONGEST_S = 0.8  # from the start to the death of every second one; of the others once some points have begun
POINTS = 250
MOST_RUNS = 6  # that may begin before the kill
# Each run of a point leaves a line with its place in the study before it begins.
TAGGED = (
    OWN.partition("def counted")[0]
    + """
def counted(context, request, draft_tokens, tag):
    with (HERE / "tags").open("a") as file:
        file.write(f"{tag}\\n")
    yield from sync(context, request, Sync(name="sync", draft_tokens=draft_tokens))
"""
)


def stored(out: Path) -> dict[str, tuple[object, ...]]:
    """The points in a store, by key; the store opens and is whole."""
    if not (out / "study.sqlite").exists():
        return {}
    with sqlite3.connect(out / "study.sqlite") as base:
        (health,) = base.execute("pragma quick_check(1)").fetchone()
        assert health == "ok"
        if not base.execute("select count(*) from sqlite_schema where name='points'").fetchone()[0]:
            return {}
        rows = base.execute("select key, choices, state, metrics from points").fetchall()
    base.close()
    found = {row[0]: tuple(row[1:]) for row in rows}
    assert len(found) == len(rows), "a point is stored twice"
    return found


def tags_of(points: dict[str, tuple[object, ...]]) -> set[str]:
    """The tags that points were run with."""
    return {str(json.loads(str(labels))[0]) for labels, _, _ in points.values()}


def run_tags(folder: Path, begun: int) -> list[str]:
    """What has run since a length of the list."""
    file = folder / "tags"
    return file.read_text().split()[begun:] if file.exists() else []


def killed(running: Running, folder: Path, begun: int, runs: int, moment_s: float, *, group: bool) -> bool:
    """Kill a study some time after so many runs have begun, all of its processes or its first one alone.

    Whether it was still running; nothing of it is left when this returns, as workers end where nobody listens.
    """
    until(lambda: len(run_tags(folder, begun)) >= runs or running.over() is not None)
    time.sleep(moment_s)
    was = running.over() is None
    running.send(signal.SIGKILL, group=group)
    until(lambda: running.over() is not None and not members(running.pid))
    return was


@pytest.mark.slow
def test_a_hundred_kills_lose_no_point_and_repeat_none(tmp_path: Path) -> None:
    axes = [{"key": "policy.parameters.tag", "values": list(range(POINTS)), "name": "tag"}]
    policy = {**POLICY, "parameters": {"draft_tokens": 4, "tag": 0}}
    file = write_study(tmp_path / "study", axes=axes, set={"policy": policy})
    (file.parent / "own.py").write_text(TAGGED)
    folder, chance, kills, number = tmp_path / "here", random.Random(SEED), 0, 0
    folder.mkdir()
    warm = Warm()
    try:
        while kills < KILLS:  # one study after the other, each until all its points are done
            number += 1
            kills += kills_of_one(warm, file, folder / f"{number}", chance, KILLS - kills)
    finally:
        warm.close()


def kills_of_one(warm: Warm, file: Path, out: Path, chance: random.Random, most: int) -> int:
    """Start a study again and again, kill it at most so often, and let it end; how often it was killed."""
    words = ["study", str(file), *f"--workers {WORKERS} --yes --allow-code --csv {out}.csv --out {out}".split()]
    points, kills = stored(out), 0
    while kills < most:
        begun, before = len(run_tags(file.parent, 0)), points
        running = warm.start(words, out.parent)
        runs, longest_s = (chance.randrange(MOST_RUNS), 0.01) if kills % 2 else (0, LONGEST_S)
        was = killed(running, file.parent, begun, runs, chance.uniform(0, longest_s), group=chance.random() < 0.5)
        points = stored(out)
        assert before.items() <= points.items(), "a stored point is lost, or has become another"
        again = tags_of(before) & set(run_tags(file.parent, begun))
        assert not again, f"stored points have run again: {again}"
        kills += was
        if not was:
            break
    done = warm.start(words, out.parent).ended(seconds=600)
    assert (done.status, done.orphans) == (0, []), done.errors
    last = stored(out)
    assert points.items() <= last.items()
    assert len(last) == POINTS
    with Path(f"{out}.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert Counter(row["tag"] for row in rows) == Counter(map(str, range(POINTS)))
    return kills
