"""Every key of the console, declared once.

Bindings, the key line, the help page and the palette are readers of this table. The keys that move a cursor or a text
belong to the widgets (`tui.widgets`) and are listed by their ids here, so that they can be remapped in the same file.
Deliberately left out: what an action does, which stands in `tui.app` and in the screens.
"""

from __future__ import annotations

from textual.binding import Binding

from tui.action import Action
from tui.screen_actions import OUTSIDE, SCREEN_ACTIONS

TABS = (
    "runs", "live", "samples", "group", "tokens", "aha", "curves", "knobs", "rank", "system", "log", "checkpoints"
)  # fmt: skip
"""The screens that have a tab, in the order of their tabs."""
SCREENS = (*TABS, "label")
"""All screens; those without a tab are reached from another, under whose tab they stand."""

SHORT_NAMES = {"tokens": "token", "curves": "curve", "system": "sys", "checkpoints": "saves"}
"""How a tab is called where there is no room for all."""

ACTIONS: tuple[Action, ...] = (
    Action("screen.runs", "1", "runs", "All runs: state, step, reward, place in the queue", "ponder ls", rank=9),
    Action(
        "screen.live", "2", "live", "One run as it learns: curves, and answers while they are written", OUTSIDE, rank=9
    ),
    Action(
        "screen.samples",
        "3",
        "samples",
        "Every answer of the run: filtered, sorted, read",
        "ponder samples {run}",
        rank=9,
    ),
    Action("screen.group", "4", "group", "The answers to one prompt side by side", "ponder group --run {run}", rank=9),
    Action("screen.tokens", "5", "tokens", "One answer token by token: probability, entropy, value", rank=9),
    Action(
        "screen.aha", "6", "aha", "Where answers turn back on themselves, and what it did", "ponder aha {run}", rank=9
    ),
    Action(
        "screen.curves",
        "7",
        "curves",
        "Any metric as a curve, several at once, several runs over each other",
        "ponder plot {run}",
        rank=9,
    ),
    Action(
        "screen.knobs",
        "8",
        "knobs",
        "Every number that can be turned, with bounds and help",
        "ponder knobs {run}",
        rank=9,
    ),
    Action(
        "screen.rank",
        "9",
        "rank",
        "Put answers in order while the policy learns, and see whether the reward model keeps its promises",
        "ponder rank {run}",
        rank=9,
    ),
    Action(
        "screen.system",
        "0",
        "system",
        "Processors, memory, disk, GPUs, and where the time of a step goes",
        "ponder system {run}",
        rank=9,
    ),
    Action("screen.log", "L", "log", "What happened, and the trainer's log", "ponder logs {run}", rank=9),
    Action(
        "screen.checkpoints",
        "C",
        "checkpoints",
        "What the run left on disk: talk to it, fork, go back, keep it",
        "ponder checkpoints {run}",
        rank=9,
    ),
    Action(
        "run.pause",
        "space,P",
        "pause",
        "Pause at the next step boundary, or resume",
        "ponder pause {run}",
        changes=True,
        rank=3,
    ),
    Action(
        "run.save",
        "c",
        "checkpoint",
        "Write a checkpoint at the next step boundary",
        "ponder save {run}",
        changes=True,
        rank=7,
    ),
    Action(
        "run.stop",
        "S",
        "stop",
        "Finish the step, write a checkpoint and end the run; asks first",
        "ponder stop {run}",
        changes=True,
        rank=7,
    ),
    Action("app.back", "escape", "back", "Out of what is open; back to the live screen", rank=9),
    Action("app.next_pane", "tab", "pane", "To the next pane", rank=6),
    Action("app.repaint", "ctrl+l", "repaint", "Paint the whole screen again", rank=9),
    Action(
        "app.copy",
        "y",
        "copy",
        "Copy what is under the cursor: through tmux, or the terminal (OSC 52), else into a file",
        rank=9,
    ),
    Action(
        "app.thrift",
        "w",
        "spare line",
        "Paint about once a second: by itself on a slow line, always, or never; keys are shown at once",
        rank=9,
    ),
    Action("app.interrupt", "ctrl+c", "leave", "Leave the console at once; runs go on", rank=9),
    Action(
        "app.palette", "colon,ctrl+p", "find", "Find a run, a screen, a knob, a metric or an action by its name", rank=8
    ),
    Action("app.help", "f1,question_mark", "help", "This page: keys, the pane in focus, what the words mean", rank=8),
    Action("app.leave", "q", "leave", "Leave the console; runs go on", rank=8),
    Action("tutorial.skip", "greater_than_sign", "skip", "The tutorial's next station, undone or not", rank=9),
    Action("tutorial.leave", "X", "leave", "No more of the tutorial; `ponder tutorial` goes on there", rank=9),
    *SCREEN_ACTIONS,
)

WIDGET_KEYS: dict[str, tuple[str, str]] = {
    "list.down": ("j,down", "A row down"),
    "list.up": ("k,up", "A row up"),
    "list.page_down": ("pagedown,ctrl+d", "A page down"),
    "list.page_up": ("pageup,ctrl+u", "A page up"),
    "list.first": ("g,home", "To the first row"),
    "list.last": ("G,end", "To the last row"),
    "list.select": ("enter", "Open the row"),
    "text.down": ("j,down", "A line down"),
    "text.up": ("k,up", "A line up"),
    "text.page_down": ("pagedown,ctrl+d", "A page down"),
    "text.page_up": ("pageup,ctrl+u", "A page up"),
    "text.top": ("g,home", "To the top"),
    "text.end": ("G,end", "To the end, and follow it"),
}
"""Keys of lists and texts; they override the widgets' own, because `space` pauses the run here."""

BY_ID: dict[str, Action] = {action.id: action for action in ACTIONS}


def actions_of(screen: str) -> list[Action]:
    """The actions of one screen (`""`: of all screens) in the order of the table."""
    return [action for action in ACTIONS if action.screen == screen]


def bindings(screen: str = "") -> list[Binding]:
    """Textual's bindings for a screen, or for the app."""
    return [
        Binding(key, method, action.words, id=action.id, show=False, priority=action.has_priority)
        for action in actions_of(screen)
        for key, method in _methods(action)
    ]


def _methods(action: Action) -> list[tuple[str, str]]:
    if not action.is_many:
        return [(action.key, action.method)]
    return [(key, f"{action.method}('{key}')") for key in action.key.split(",")]
