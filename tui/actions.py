"""Every key of the console, declared once.

Bindings, the key line, the help page and the palette are readers of this table. The keys that move a cursor or a text
belong to the widgets (`tui.widgets`) and are listed by their ids here, so that they can be remapped in the same file.
Deliberately left out: what an action does, which stands in `tui.app` and in the screens.
"""

from __future__ import annotations

from textual.binding import Binding

from ponder.events import Outcome
from tui.action import Action

SCREENS = (
    "runs", "live", "samples", "group", "tokens", "aha", "curves", "knobs", "rank", "system", "log", "checkpoints"
)  # fmt: skip
"""The screens in the order of their tabs."""

SHORT_NAMES = {"tokens": "token", "curves": "curve", "system": "sys", "checkpoints": "saves"}
"""How a tab is called where there is no room for all."""

_OUTSIDE = "ponder watch {run}"

ACTIONS: tuple[Action, ...] = (
    Action("screen.runs", "1", "runs", "All runs: state, step, reward, place in the queue", "ponder ls", rank=9),
    Action(
        "screen.live", "2", "live", "One run as it learns: curves, and answers while they are written", _OUTSIDE, rank=9
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
    Action("runs.open", "enter", "open", "Watch the run under the cursor", _OUTSIDE, "runs", rank=0),
    Action("runs.mark", "m", "mark", "Mark the run to compare it with others, up to eight", screen="runs", rank=1),
    Action(
        "runs.compare",
        "v",
        "compare",
        "Settings that differ, final and best figures of the marked runs side by side",
        "ponder compare RUN RUN",
        "runs",
        rank=1,
    ),
    Action("runs.overlay", "o", "curves", "The marked runs as curves over each other", screen="runs", rank=2),
    Action("runs.find", "slash", "filter", "Only runs with these words in name, title, state", screen="runs", rank=2),
    Action("live.next", "n", "next", "Read the next of the answers that are being written", screen="live", rank=0),
    Action("live.previous", "p", "previous", "Read the previous one", screen="live", rank=1),
    Action(
        "live.hold", "f", "hold", "Keep this answer on the screen, or follow the newest again", screen="live", rank=2
    ),
    Action(
        "live.open",
        "enter",
        "group",
        "Compare the answers to the prompt of the row under the cursor",
        screen="live",
        rank=2,
    ),
    Action("samples.open", "enter", "read", "Read the answer under the cursor", screen="samples", rank=0),
    Action(
        "samples.filter",
        "slash",
        "filter",
        'Show only some answers: a line such as reward>0.5 step:120..130 rescued wrong prompt:"solve 4" wait',
        "ponder samples {run} --filter LINE",
        "samples",
        rank=0,
    ),
    Action(
        "samples.sort",
        "s",
        "sort",
        "Newest, highest reward, or longest first",
        "ponder samples {run} --order reward",
        "samples",
        rank=1,
    ),
    Action("samples.step", "t", "to step", "Go to the newest answer of a step", screen="samples", rank=1),
    Action(
        "samples.star",
        "asterisk",
        "star",
        "Worth coming back to, or no longer; the filter starred finds it",
        "ponder star SAMPLE",
        "samples",
        True,
        3,
    ),
    Action(
        "samples.flag",
        "exclamation_mark",
        "flag",
        "Something is wrong with it, or no longer; the filter flagged finds it",
        "ponder flag SAMPLE",
        "samples",
        True,
        3,
    ),
    Action(
        "samples.note",
        "i",
        "note",
        "Write a note beside the answer; the filter noted finds it",
        "ponder note SAMPLE TEXT",
        "samples",
        True,
        3,
    ),
    Action("samples.next", "n", "next", "To the next answer, which is read at once", screen="samples", rank=2),
    Action("samples.previous", "p", "previous", "To the answer before", screen="samples", rank=2),
    Action("group.left", "h,left", "left", "To the answer on the left", screen="group", rank=9),
    Action("group.right", "l,right", "right", "To the answer on the right", screen="group", rank=9),
    Action("group.next", "n", "next", "To the next newer group", screen="group", rank=0),
    Action("group.previous", "p", "previous", "To the next older group", screen="group", rank=1),
    Action("group.newest", "N", "newest", "To the newest group", screen="group", rank=4),
    Action("group.sort", "s", "sort", "Best reward first, or in the order of sampling", screen="group", rank=2),
    Action(
        "group.rescue",
        "f",
        "find rescue",
        "To the next older group in which reflection rescued an answer",
        screen="group",
        rank=2,
    ),
    Action(
        "group.explain",
        "e",
        "explain",
        "The group through the GRPO formula with its numbers: reward, advantage, ratio, clip, share of the loss",
        "ponder explain {run} --step STEP --group GROUP",
        "group",
        rank=3,
    ),
    Action(
        "group.quarantine",
        "x",
        "quarantine",
        "Ask this prompt no more from the next step on, until the stage ends; or ask it again",
        "ponder quarantine {run} PROMPT [--lift]",
        "group",
        True,
        5,
    ),
    Action("tokens.left", "h,left", "left", "To the token before", screen="tokens", rank=9),
    Action("tokens.right", "l,right", "right", "To the token after", screen="tokens", rank=9),
    Action(
        "tokens.quantity",
        "m",
        "quantity",
        "Probability, entropy, or the value that a critic expected",
        screen="tokens",
        rank=0,
    ),
    Action("tokens.hot", "f", "find hot", "To the next token of the highest heat", screen="tokens", rank=1),
    Action("tokens.next", "n", "next", "The next answer of the group", screen="tokens", rank=2),
    Action("tokens.previous", "p", "previous", "The answer before it", screen="tokens", rank=2),
    Action("tokens.newest", "N", "newest", "The newest answer of the run", screen="tokens", rank=4),
    Action(
        "tokens.signs", "d", "digits", "Heats as digits below the text, or as colour alone", screen="tokens", rank=4
    ),
    Action("aha.open", "enter", "read", "Read the whole trace", screen="aha", rank=0),
    Action(
        "aha.outcome",
        "o",
        "outcome",
        f"Show only one outcome: all, {', '.join(Outcome)}, or a game's finds",
        screen="aha",
        rank=1,
    ),
    Action("aha.order", "s", "sort", "Rescued first, newest first, oldest first, or best first", screen="aha", rank=2),
    Action(
        "curves.choose",
        "m",
        "metrics",
        "Choose the metrics by letters of their names or /regex",
        screen="curves",
        rank=0,
    ),
    Action("curves.runs", "o", "runs", "Choose up to seven runs to lay over this one", screen="curves", rank=1),
    Action(
        "curves.smooth", "s", "smooth", "Smoothing: none, 0.6, 0.9, 0.99; raw values stay behind", "", "curves", rank=2
    ),
    Action("curves.closer", "z,plus", "zoom", "Half as many steps, around the cursor", screen="curves", rank=2),
    Action("curves.wider", "Z,minus", "out", "Twice as many steps", screen="curves", rank=9),
    Action("curves.left", "h,left", "cursor", "The cursor a column back", screen="curves", rank=3),
    Action("curves.right", "l,right", "right", "The cursor a column on", screen="curves", rank=9),
    Action("curves.last_mark", "p", "marks", "The cursor to the mark before it", screen="curves", rank=4),
    Action("curves.next_mark", "n", "next mark", "The cursor to the next mark", screen="curves", rank=9),
    Action("curves.earlier", "left_square_bracket", "earlier", "Half a view back", screen="curves", rank=9),
    Action("curves.later", "right_square_bracket", "later", "Half a view on", screen="curves", rank=9),
    Action("curves.axis", "x", "time", "Steps or wall time along x", screen="curves", rank=5),
    Action("curves.log", "e", "log", "The chart in focus by the logarithm, or plainly again", screen="curves", rank=5),
    Action("curves.open", "enter", "large", "The chart in focus alone, or all again", screen="curves", rank=4),
    Action("curves.more", "f", "page", "The next page of charts", screen="curves", rank=6),
    Action(
        "knobs.edit",
        "enter",
        "edit",
        "Type a new value; it is checked before it is sent",
        "ponder set {run} NAME=VALUE",
        "knobs",
        True,
        0,
    ),
    Action(
        "knobs.more",
        "plus,equals_sign",
        "more",
        "A step up, to be confirmed with Enter",
        screen="knobs",
        changes=True,
        rank=1,
    ),
    Action(
        "knobs.less", "minus", "less", "A step down, to be confirmed with Enter", screen="knobs", changes=True, rank=1
    ),
    Action(
        "knobs.undo",
        "u",
        "set back",
        "Set the knob back to what it was before its last change",
        screen="knobs",
        changes=True,
        rank=2,
    ),
    Action(
        "rank.place",
        "1,2,3,4,5,6,7,8,9,0",
        "best first",
        "The next best answer, by its number; the last one need not be typed. Here digits lead to no other screen",
        screen="rank",
        rank=0,
        is_typed=True,
        is_many=True,
    ),
    Action(
        "rank.tie",
        "equals_sign",
        "tie",
        "The next answer is as good as the one before",
        screen="rank",
        rank=1,
        is_typed=True,
    ),
    Action(
        "rank.commit",
        "enter",
        "keep",
        "Keep what is said, and go on to the next answers; those without a place are worse than the others",
        screen="rank",
        changes=True,
        rank=0,
        is_typed=True,
    ),
    Action(
        "rank.bad", "b", "all bad", "None of them is acceptable; Enter keeps it", screen="rank", rank=2, is_typed=True
    ),
    Action("rank.skip", "s", "skip", "No opinion; Enter keeps it", screen="rank", rank=2, is_typed=True),
    Action(
        "rank.flag",
        "x",
        "flag",
        "With a digit: that answer is a hack, or broken; again: no longer. On the gauge: steps or KL along x",
        screen="rank",
        rank=3,
        is_typed=True,
    ),
    Action(
        "rank.undo",
        "u",
        "undo",
        "The last key back; where nothing is typed, the last ranking, and the one before it, as far as you like",
        screen="rank",
        changes=True,
        rank=1,
        is_typed=True,
    ),
    Action("rank.back", "backspace", "back", "The last key back", screen="rank", rank=9, is_typed=True),
    Action("rank.reasons", "r", "reasons", "Why: reasons by their digits, and your own words", screen="rank", rank=4),
    Action(
        "rank.diff",
        "d",
        "diff",
        "The others word by word against the best so far: {+only here+} [-only in the best-]; or plainly again",
        screen="rank",
        rank=4,
    ),
    Action("rank.lock", "o", "lock", "Scroll all answers together, or each alone", screen="rank", rank=6),
    Action(
        "rank.gauge",
        "m",
        "gauge",
        "What the reward model promised against what people said, the brake, agreement; or the answers again",
        "ponder rlhf status {run}",
        "rank",
        rank=3,
    ),
    Action(
        "rank.release",
        "R",
        "release",
        "On the gauge, when it is red: let go of the brake; what it did is taken back, and the gauge begins anew",
        "ponder rlhf release {run}",
        "rank",
        True,
        6,
    ),
    Action("rank.left", "h,left", "left", "To the answer on the left", screen="rank", rank=9),
    Action("rank.right", "l,right", "right", "To the answer on the right", screen="rank", rank=9),
    Action(
        "log.follow",
        "f",
        "follow",
        "Stay at the end of what is in focus, or stop",
        "ponder logs {run} --follow",
        "log",
        rank=0,
    ),
    Action(
        "checkpoints.talk",
        "t",
        "talk",
        "Talk to the checkpoint under the cursor; Ctrl-D comes back",
        "ponder chat {run}@STEP",
        "checkpoints",
        rank=0,
    ),
    Action(
        "checkpoints.fork",
        "f",
        "fork",
        "A new run that shares the past up to there, with other knobs if you like",
        "ponder fork {run} --at STEP --set KNOB=VALUE",
        "checkpoints",
        True,
        1,
    ),
    Action(
        "checkpoints.rewind",
        "r",
        "rewind",
        "A new run begins there and this one is stopped; asks first",
        "ponder rewind {run} STEP",
        "checkpoints",
        True,
        2,
    ),
    Action(
        "checkpoints.pin",
        "p",
        "pin",
        "Keep it however old it gets, or let it go again",
        "ponder pin {run} STEP",
        "checkpoints",
        True,
        2,
    ),
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
