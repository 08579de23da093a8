"""A group's way through the formula as paragraphs of the console, with one answer worked out.

Deliberately left out: the arithmetic and its words (`ponder.explain`), and scrolling (`tui.widgets`).
"""

from __future__ import annotations

from ponder.explain import COLUMNS, Lesson
from tui.widgets import Paragraph

SPARE = ("clipped", "log old", "most", "least", "tokens", "rho")
"""Columns that give way where the screen is narrow, the first first."""


def lesson_paragraphs(lesson: Lesson, chosen: int, width: int) -> list[Paragraph]:
    """The five steps; `chosen` is the index of the answer that is worked out."""
    found: list[Paragraph] = []
    for chapter in lesson.chapters():
        found.append(Paragraph.of(f"{chapter.title}: {chapter.words}", style="title", sign=str(chapter.number)))
        found += [Paragraph.of(f"  {line}") for line in chapter.lines]
        if chapter.title == "Loss":
            found += _table(lesson, chosen, width - 2)
            found += [Paragraph.of(f"  {words}", style="dim") for words in filter(None, [lesson.sum_words()])]
            found.append(Paragraph.of(f"  answer {chosen + 1}, worked out", style="title", sign=">"))
            found += [Paragraph.of(f"    {line}") for line in lesson.work_out(chosen)]
    return found


def _table(lesson: Lesson, chosen: int, room: int) -> list[Paragraph]:
    """An answer a row, in columns as wide as what stands in them."""
    rows = {answer.index: lesson.answer_row(answer) for answer in lesson.found.answers}
    lines = [COLUMNS, *rows.values()]
    widths = {name: max(len(line[at]) for line in lines) for at, name in enumerate(COLUMNS)}
    for name in SPARE:
        if sum(width + 2 for width in widths.values()) <= room:
            break
        del widths[name]
    places = {name: at for at, name in enumerate(COLUMNS) if name in widths}

    def line(cells: tuple[str, ...]) -> str:
        return "  " + "  ".join(cells[at].rjust(widths[name]) for name, at in places.items())

    def row(index: int, cells: tuple[str, ...]) -> Paragraph:
        style, sign = ("answer", ">") if index == chosen else ("plain", "")
        return Paragraph.of(line(cells), style=style, sign=sign)

    return [Paragraph.of(line(COLUMNS), style="dim"), *(row(index, cells) for index, cells in rows.items())]
