"""The page of a run holds all of it, loads nothing, and whatever a model wrote is text on it."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from ponder import metrics, wire
from ponder.curve_svg import Chart, Mark, Scales, curve_svg, stacked, ticks
from ponder.events import Outcome
from ponder.metrics import METRICS
from ponder.plot_text import Curve
from ponder.recipe import builtin_recipes, dump_recipe, parse_recipe, read_recipe_text
from ponder.report import Facts, report_page
from ponder.turn_story import CAUSE
from store.reader import Reader
from tests.store.records import fill_store

RUN = "countdown-zero-1"
ATTACK = (
    "<script>alert(1)</script><img src=x onerror=alert(1)></pre></div></svg><style>*{display:none}</style>"
    "<a href='javascript:alert(1)'>click</a><!-- \" ' &lt; \x1b]52;c;eA==\x07\u202eevil ]]> {{7*7}}"
)
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
KNOWN_TAGS = {
    "html", "head", "meta", "title", "style", "body", "tbody", "h1", "h2", "h3", "p", "nav", "a", "table", "tr",
    "th", "td", "div", "span", "pre", "details", "summary", "svg", "g", "path", "text", "circle", "rect",
}  # fmt: skip


class Page(HTMLParser):
    """Every tag with its attributes, the text, and whether all was closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def facts(folder: Path) -> Facts:
    fill_store(folder / "ponder.db", steps=30)
    reader = Reader(folder / "ponder.db")
    samples = reader.samples(RUN, limit=4).samples
    made = Facts(
        detail=reader.run(RUN),
        curves=reader.metrics(RUN),
        aha=reader.aha(RUN, Outcome.RESCUED, "best", 3),
        best=reader.samples(RUN, limit=3, min_reward=1.0).samples,
        worst=reader.samples(RUN, limit=3, max_reward=0.0).samples,
        newest=samples,
        knobs=reader.knobs(RUN),
        version="0.1",
        made_us=0,
    )
    reader.close()
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return facts(tmp_path_factory.mktemp("report"))


def hostile(made: Facts) -> Facts:
    """The same, with an attack wherever text is."""
    rollout = made.newest[0].rollout
    marks = [replace(mark, word=ATTACK, before=ATTACK, after=ATTACK) for mark in made.aha.traces[0].rollout.marks]
    bad = replace(
        made.newest[0], run=ATTACK, prompt=ATTACK, reference=ATTACK,
        rollout=replace(rollout, text=ATTACK * 2, answer=ATTACK, answer_start=len(ATTACK), error=ATTACK,
                        parts={ATTACK: 1.0}, marks=marks),
    )  # fmt: skip
    row = replace(made.detail.row, name=ATTACK, title=ATTACK, reason=ATTACK, forked_from=ATTACK, forked_at=3)
    detail = replace(
        made.detail, row=row, recipe=ATTACK, model=ATTACK, device=ATTACK, folder=ATTACK, firings=[(3, ATTACK)],
        attempts=[replace(attempt, cause=ATTACK) for attempt in made.detail.attempts],
        newest={**made.detail.newest, f"part/{ATTACK}": 1.0},
    )  # fmt: skip
    changes = [replace(change, name=ATTACK, new=ATTACK, by=ATTACK, message=ATTACK) for change in made.knobs.changes]
    curves = wire.Curves(made.curves.curves, [(3, ATTACK), (4, f"resumed {ATTACK}")])
    aha = replace(made.aha, first_rescue=bad, traces=[bad, bad])
    return Facts(detail, curves, aha, [bad], [bad], [bad], replace(made.knobs, changes=changes), ATTACK, 0)


def check_harmless(page: Page) -> None:
    """Only tags of ours, and nothing in them that runs, loads or leads away."""
    assert {tag for tag, _ in page.tags} <= KNOWN_TAGS
    assert page.open == []
    assert page.comments == []
    for tag, attributes in page.tags:
        assert not any(
            name.startswith("on") or name in ("src", "srcset", "action", "xlink:href") for name in attributes
        )
        if tag == "a":
            assert re.fullmatch(r"#\w+", attributes["href"] or "")
        if tag != "meta":
            assert not any("url(" in (value or "") or "script" in (value or "") for value in attributes.values())


def test_the_page_holds_what_there_is_to_know(plain: Facts) -> None:
    text = report_page(plain)
    page = Page(text)
    check_harmless(page)
    for words in (
        RUN, "R1-Zero in miniature", "held-out accuracy", "optim.lr", "0.0003", "0.0001", "resumed from step 20",
        "killed by signal 9", "prompts_per_step", "The first rescue", "Best", "Worst", "Newest", "advantage",
    ):  # fmt: skip
        assert words in page.text, words
    assert plain.aha.traces[0].rollout.text.split(" wait ")[0] in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) >= 8
    assert "http" not in re.sub(r'xmlns="http://www.w3.org/2000/svg"|http-equiv', "", text)
    policy = next(
        attributes for tag, attributes in page.tags if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_what_turning_back_causes_is_drawn_and_told(plain: Facts) -> None:
    checks = dict(zip(CAUSE, ([(10, 0.1)], [(10, -0.05)], [(10, 0.25)], [(10, 12.0)]), strict=True))
    checked = dataclasses.replace(plain, curves=wire.Curves({**plain.curves.curves, **checks}, []))
    text = Page(report_page(checked)).text
    assert "Right by forcing a marker, less by forbidding it: +10.0 points (-5.0..+25.0), 12 turns, step 10" in text
    assert METRICS[metrics.EVAL_CAUSE].label in text
    assert "forcing a marker" not in Page(report_page(plain)).text


def test_a_run_of_several_stages_says_where_each_begins(plain: Facts) -> None:
    path = builtin_recipes()["countdown-imitation"]
    told = dump_recipe(parse_recipe(read_recipe_text(path), str(path)))
    page = Page(report_page(dataclasses.replace(plain, detail=replace(plain.detail, recipe=told))))
    check_harmless(page)
    assert "stage reinforce begins" in page.text
    assert "stage reinforce begins" not in Page(report_page(plain)).text


def test_whatever_a_model_wrote_is_text_on_the_page(plain: Facts) -> None:
    text = report_page(hostile(plain))
    page = Page(text)
    check_harmless(page)
    assert page.text.count("<script>alert(1)</script>") > 20
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert sum(tag == "style" for tag, _ in page.tags) == 1


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_a_browser_shows_the_hostile_page_as_it_was_written(plain: Facts, tmp_path: Path) -> None:
    """What the browser itself made of the page: had any attack opened a tag, it would be one of the tags here."""
    text = report_page(hostile(plain))
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    assert BROWSER is not None
    ended = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={tmp_path}/profile",
         path.as_uri()],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    seen, written = Page(ended.stdout), Page(text)
    check_harmless(seen)
    count = {tag: sum(name == tag for name, _ in written.tags) for tag in ("svg", "pre", "td", "h2", "script", "img")}
    assert {tag: sum(name == tag for name, _ in seen.tags) for tag in count} == count
    assert seen.text.count("<script>alert(1)</script>") == written.text.count("<script>alert(1)</script>")


def test_a_run_that_has_nothing_yet_has_a_page_that_says_so(plain: Facts) -> None:
    row = replace(plain.detail.row, step=0, started_us=None, ended_us=None, seen_us=None)
    detail = replace(plain.detail, row=row, evaluations=[], newest={}, attempts=[])
    nothing = Facts(
        detail, wire.Curves({}, []), wire.Aha({}, 0, None, []), [], [], [], wire.KnobTable(RUN, 0, [], []), "0.1", 0
    )
    page = Page(report_page(nothing))
    assert "no curves yet" in page.text
    assert "no answers yet" in page.text


def test_a_picture_of_curves_shows_each_with_a_letter_and_every_mark_with_its_words() -> None:
    curves = [Curve([(0, 0.0), (10, 1.0)], "one", sign="a"), Curve([(0, 1.0), (10, 0.5)], ATTACK, 0.9, sign="b")]
    text = stacked([Chart("reward", curves, ATTACK), Chart(ATTACK, [])], [Mark(5.0, "k", f"step 5: {ATTACK}")])
    page = Page(text)
    check_harmless(page)
    assert "a one" in page.text
    assert "no data" in page.text
    assert "step 5: <script>" in page.text


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize(
    "points",
    [[], [(0.0, 0.0)], [(3.0, 5.0)], [(0.0, -1.0), (1.0, 2.0)], [(0.0, 1e-12), (9.0, 1e12)], [(1.0, float("nan"))]],
)
def test_any_curve_can_be_drawn_and_stays_inside(points: list[tuple[float, float]], is_log: bool) -> None:
    text = curve_svg([Curve(points, smoothing=0.5)], "x", scales=Scales(is_log=is_log))
    assert "nan" not in text
    assert "inf" not in text
    for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", text):
        assert 0 <= float(x) <= 720
        assert 0 <= float(y) <= 280


def test_a_constant_is_a_line_and_not_the_rounding_of_its_mean() -> None:
    text = curve_svg([Curve([(float(step), 3e-4) for step in range(60)], smoothing=0.9)], "learning rate")
    heights = {y for _, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", text.partition('class="line"')[2])}
    assert len(heights) == 1
    assert ticks(0.0, 1.0, 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
