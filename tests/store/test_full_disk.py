"""A disk that is full at the N-th page that the store writes, N below 200: whole transactions only, and it goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FULL_AT_EACH_PAGE = """
import resource, shutil, sys
from pathlib import Path
from ponder.errors import StoreError
from store.reader import Reader
from store.writer import Writer
from tests.store.contents import contents
from tests.store.records import recipe_text, run_records
folder = Path(sys.argv[1])
template = folder / "template.db"
records = run_records(30, 4, 8)
half = len(records) // 2
writer = Writer(template)
run = writer.submit_run("submit", recipe_text(), "", "")
writer.commit_records(run, records[:half])
writer.close()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
FRAME, told_by_clock, refusals, whole = 4096 + 24, ("runs", "commands", "events"), 0, None
for page in range(200):
    path = folder / f"{page}.db"
    shutil.copy(template, path)
    writer = Writer(path)
    assert writer.last_seq(run) == half
    log = path.with_name(path.name + "-wal")
    start = log.stat().st_size if log.exists() else 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (start + 32 + page * FRAME, hard))
    try:
        writer.commit_records(run, records[half:])
    except StoreError:
        refusals += 1
        assert writer.health()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert writer.last_seq(run) in (half, len(records))
    assert writer.commit_records(run, records) == len(records) and writer.health() == ""
    writer.close()
    reader = Reader(path)
    assert reader._connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    reader.close()
    if page % 20 == 0:
        now = contents(path, told_by_clock)
        assert whole in (None, now), page
        whole = now
    path.unlink()
print("refused", refusals)
"""


def test_the_store_goes_on_by_itself_whichever_page_finds_no_room(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FULL_AT_EACH_PAGE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.stderr == ""
    assert int(result.stdout.removeprefix("refused")) > 20
