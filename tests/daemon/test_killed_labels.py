"""Whoever is killed while a person ranks: what was promised to be kept is kept, once, as it was said.

PONDER_LABEL_KILLS says how many kills, PONDER_LABELS how many rankings at least, PONDER_KILLS_SEED which; the default
is for every day, 2,000 kills over 10,000 rankings for a release.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from daemon.processes import is_same_process, read_started
from ponder import wire
from ponder.client import child_environment
from ponder.events import RankingKept, RankingUndone
from ponder.ranking import Stream, dense
from ponder.scoring import ranks_of_scores
from tests.daemon.conftest import Home, wait_for
from tests.daemon.test_random_kills import resume_if_failed
from tests.daemon.test_rankings import submit
from tests.peers.labeller import Said, read_log

KILLS = int(os.environ.get("PONDER_LABEL_KILLS", "60"))
LABELS = int(os.environ.get("PONDER_LABELS", "200"))
SEED = int(os.environ.get("PONDER_KILLS_SEED", "1"))
WHO = ("labeller", "labeller", "daemon", "daemon", "trainer")
PATIENCE_S = 60.0


class Labelling:
    """A run, and somebody who ranks its answers, begun again after each kill."""

    def __init__(self, home: Home, log: Path) -> None:
        self.home, self.log = home, log
        self.run = submit(home, steps=1_000_000, step_s=0.05, save_every=20)
        self.process: subprocess.Popen[bytes] | None = None
        self.begun = 0

    def start(self) -> None:
        self.begun += 1
        words = [sys.executable, "-P", "-m", "tests.peers.labeller", self.run, str(self.log), f"{SEED} {self.begun}"]
        with self.home.paths.daemon_log.open("ab") as log:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=child_environment(self.home.paths)
            )

    def kill(self, who: str) -> bool:
        """Whether it was alive; it is begun again at once, the trainer by the daemon."""
        assert self.process is not None
        if who == "labeller":
            self.process.kill()
            was_alive = self.process.wait() == -signal.SIGKILL
            assert was_alive, self.home.paths.daemon_log.read_text()[-4000:]
            self.start()
            return was_alive
        if who == "daemon":
            self.home.kill_daemon()
            self.home.start()
            return True
        papers = read_started(self.home.paths.run(self.run))
        if papers is None or not is_same_process(papers):
            return False
        os.kill(papers.pid, signal.SIGKILL)
        return True

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def has_enough(self) -> bool | None:
        resume_if_failed(self.home, self.run)
        return self.log.read_bytes().count(b'"what":"kept"') >= LABELS or None

    def rows(self) -> list[wire.RankingRow]:
        """All that the store has, also what was taken back."""
        found: list[wire.RankingRow] = []
        while True:
            after = found[-1].id if found else 0
            asked = wire.GetRankings(self.run, after, 1000, with_undone=True, with_scored=True)
            page = self.home.client.ask(asked, wire.Rankings).rows
            if not page:
                return found
            found += page


@pytest.mark.slow
@pytest.mark.timeout(120 + 3 * KILLS + LABELS)
def test_no_label_is_lost_and_none_doubled_whoever_is_killed(home: Home, tmp_path: Path) -> None:
    generator, met = random.Random(SEED), Counter[str]()
    home.client.timeout_s = PATIENCE_S
    home.start()
    labelling = Labelling(home, tmp_path / "promised.jsonl")
    labelling.start()
    try:
        for _ in range(KILLS):
            time.sleep(generator.uniform(0.0, 0.8))  # no condition is waited for: any moment will do
            who = generator.choice(WHO)
            met[who] += labelling.kill(who)
            resume_if_failed(home, labelling.run)
        wait_for(labelling.has_enough, f"{LABELS} rankings", PATIENCE_S + LABELS)
    finally:
        labelling.end()
    assert all(met[who] for who in WHO)
    said = read_log(labelling.log)
    assert_kept_as_promised(said, labelling.rows())
    assert_told_once(labelling)
    kinds = Counter(line.what for line in said)
    print(f"seed {SEED}: {met.total()} of {KILLS} kills met alive {dict(met)}; {dict(kinds)}, "
          f"{len(labelling.rows())} in the store")  # fmt: skip


def assert_kept_as_promised(said: list[Said], rows: list[wire.RankingRow]) -> None:
    """What was accepted is there; what is there was asked, is there once, and says what was typed."""
    asked = {line.id: line.request for line in said if line.what == "asked"}
    kept = {line.id for line in said if line.what == "kept"}
    undone = {line.ranking for line in said if line.what == "undone"}
    stored = {row.ranking: row for row in rows}
    assert len(stored) == len(rows)
    assert kept <= set(stored), f"lost: {kept - set(stored)}"
    assert set(stored) <= set(asked), f"never asked: {set(stored) - set(asked)}"
    for ranking, row in stored.items():
        request = asked[ranking]
        assert request is not None
        assert [answer.rollout_id for answer in row.answers] == request.answers
        ranks = ranks_of_scores(request.scores) if request.scores else dense(request.ranks)
        assert [answer.rank for answer in row.answers] == (ranks or [None] * len(request.answers))
        assert row.scores == request.scores
        assert (row.verdict, row.stream, row.annotator) == (request.verdict, request.stream, request.annotator)
    is_undone = {row.ranking for row in rows if row.is_undone}
    assert undone <= is_undone
    undoing = {line.id for line in said if line.what == "undoing"}
    assert len(is_undone) <= len(undoing)
    standing = [
        (row.scores is None, frozenset(answer.rollout_id for answer in row.answers))
        for row in rows if not row.is_undone and row.stream is not Stream.REPEAT
    ]  # fmt: skip
    assert len(standing) == len(set(standing)), "the same answers were ranked, or scored, twice"
    assert {is_ranking for is_ranking, _ in standing} == {True, False}


def assert_told_once(labelling: Labelling) -> None:
    """Followers heard of each ranking, and of each that was taken back, once."""
    events = [stored.event for stored in labelling.home.events(labelling.run)]
    kept = [event.ranking for event in events if isinstance(event, RankingKept)]
    undone = [event.ranking for event in events if isinstance(event, RankingUndone)]
    rows = labelling.rows()
    assert kept == [row.ranking for row in rows]
    assert sorted(undone) == sorted(row.ranking for row in rows if row.is_undone)
