"""The generated pages say what the declarations say."""

from __future__ import annotations

from pathlib import Path

from ponder import docs, events, knobs, metrics
from ponder.commands.app import GROUPS, VERBS, find_verb


def test_no_generated_page_is_stale() -> None:
    stale = docs.stale_pages()
    assert not stale, "run `make docs`\n" + "\n".join(stale.values())


def test_every_verb_knob_metric_and_event_has_its_place() -> None:
    pages = docs.pages()
    for word, _, _ in VERBS:
        assert f"### ponder {word}\n" in pages["CLI.md"]
    for group, _, verbs in GROUPS:
        assert all(f"### ponder {group} {word}\n" in pages["CLI.md"] for word, _ in verbs)
    assert all(f"`{name}`" in pages["KNOBS.md"] for name in knobs.DECLARATIONS)
    assert all(f"`{name}`" in pages["METRICS.md"] for name in metrics.METRICS)
    for member in (*events.TrainerEvent.__args__, *events.DaemonEvent.__args__, *events.PassingEvent.__args__):
        assert f"(`{member.__struct_config__.tag}`)" in pages["EVENTS.md"]


def test_writing_makes_stale_pages_fresh(tmp_path: Path) -> None:
    assert set(docs.stale_pages(tmp_path)) == set(docs.pages())
    (tmp_path / "CLI.md").write_text("old")
    assert set(docs.write_pages(tmp_path)) == set(docs.pages())
    assert docs.stale_pages(tmp_path) == {} and docs.write_pages(tmp_path) == []


def test_every_verb_explains_itself_and_its_options() -> None:
    for _, where, _ in VERBS:
        assert (find_verb(where).__doc__ or "").strip().endswith(".")
    rows = [line for line in docs.pages()["CLI.md"].splitlines() if line.startswith("| `")]
    assert rows and all(line.split(" | ")[1].removesuffix(" |").strip() for line in rows)
