"""A disk that is full at the N-th page that a ranking writes: it is refused and said so, whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FULL_AT_EACH_PAGE = """
import resource, shutil, sys
from pathlib import Path
from ponder import wire
from ponder.errors import StoreError
from ponder.ranking import Verdict
from store.reader import Reader
from store.writer import Writer
from tests.peers.judged import judged_step
from tests.store.records import as_records, recipe_text, started
folder = Path(sys.argv[1])
template = folder / "template.db"
writer = Writer(template)
run = writer.submit_run("submit", recipe_text(), "", "")
writer.commit_records(run, as_records([started(0, 9), *judged_step(1, groups=1, answers=9)]))
writer.close()
nine = list(range(1, 10))
said = wire.RankAnswers(run, 1, nine, nine, Verdict.RANKED, note="n" * 4000, annotator="ada")
tell = wire.TellRewardModel(run, 1, "a" * 64, 1, True, {f"f{n}" * 16: 1.0 for n in range(200)})
steps = (
    ("rank", lambda writer: writer.keep_ranking("r1", run, said, "ada")),
    ("undo", lambda writer: writer.undo_ranking("u1", run, wire.UndoRanking(run, "ada"), "ada")),
    ("tell", lambda writer: writer.tell_reward_model(run, tell, "worker")),
)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
FRAME, refusals = 4096 + 24, {name: 0 for name, _ in steps}
for page in range(24):
    path = folder / f"{page}.db"
    shutil.copy(template, path)
    writer, reader = Writer(path), Reader(path)
    log = path.with_name(path.name + "-wal")
    for name, act in steps:
        before = (reader.rankings(run, with_undone=True), reader.events(0).head)
        start = log.stat().st_size if log.exists() else 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (start + 32 + page * FRAME, hard))
        try:
            act(writer)
        except StoreError as error:
            refusals[name] += 1
            assert error.hint
            assert (reader.rankings(run, with_undone=True), reader.events(0).head) == before
            assert writer.health()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        act(writer)
        assert writer.health() == ""
        after = (reader.rankings(run, with_undone=True), reader.events(0).head)
        assert after[1] == before[1] + 1, "told once"
    (row,) = reader.rankings(run, with_undone=True).rows
    assert row.is_undone and len(row.answers) == 9 and [answer.rank for answer in row.answers] == list(range(1, 10))
    reader.close(), writer.close(), path.unlink()
print("refused", *refusals.values())
"""


def test_a_full_disk_refuses_a_ranking_in_words_and_keeps_nothing_half(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FULL_AT_EACH_PAGE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.stderr == ""
    refused = [int(word) for word in result.stdout.split()[1:]]
    assert len(refused) == 3 and all(refused)
