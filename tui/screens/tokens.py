"""One answer token by token: how probable each was, how unsure the policy, what the critic expected.

The text in four heats with a cursor; the exact figures of the token under it stand below; on wide terminals the least
probable tokens and how the quantity is spread. Deliberately left out: several answers at once (the Group screen), and
what was never recorded, which is said so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from ponder import wire
from tui import actions
from tui.answers import finish_words, reward_words, verdict_sign, verdict_word
from tui.place import Spot
from tui.screens.frame import ConsoleScreen
from tui.screens.group import GroupScreen
from tui.screens.odds import open_odds
from tui.screens.text_line import Part, TextLine
from tui.terms import marks_cell
from tui.token_facts import QUANTITIES, Token, TokenText, read_tokens
from tui.widgets import Cell, Column, LineView, ListRow, ListSource, Paragraph, TokenView, VirtualList

COLUMNS = (
    Column("", 1),
    Column("token", 0),
    Column("at", 6, "right"),
    Column("prob", 6, "right"),
    Column("entropy", 7, "right"),
)
LISTED = 200
"""The least probable tokens that are listed."""
BAR_CELLS = 24
WORDS = {
    "probability": "how probable each token was",
    "entropy": "how unsure the policy was at each token, in nats",
    "value": "the reward that the critic expected before each token",
}


class TokensScreen(ConsoleScreen):
    """See the module."""

    screen_name: ClassVar[str] = "tokens"
    AUTO_FOCUS: ClassVar[str | None] = "#tokens"
    BINDINGS: ClassVar[list[BindingType]] = [*actions.bindings("tokens")]

    def __init__(self) -> None:
        super().__init__()
        self._run = ""
        self._wanted: int | None = None
        self._stored: wire.StoredRollout | None = None
        self._tokens = TokenText("", (), (), False)
        self._siblings: list[int] = []
        self._quantity = QUANTITIES[0]
        self._has_signs: bool | None = None
        self._shown: tuple[object, ...] = ()

    def body(self) -> Iterable[Widget]:
        """Which answer, what the heats mean, the text, the figures of a token; beside it the least probable ones."""
        rule = "-" if self.console.is_ascii else "─"
        yield TextLine(id="tokens-head")
        yield TextLine(id="tokens-legend")
        with Horizontal(id="tokens-middle"):
            yield TokenView(id="tokens")
            with Vertical(id="tokens-side"):
                yield TextLine(id="least-head", rule=rule)
                yield VirtualList(COLUMNS, id="least", empty="nothing was recorded")
                yield TextLine(id="spread-head", rule=rule)
                yield LineView(id="spread", gutter=False)
        yield TextLine(id="token-figures")
        yield TextLine(id="token-others")

    @property
    def is_there(self) -> bool:
        """Whether the answer that was asked for is shown."""
        shown = self._stored.id if self._stored is not None else None
        return self.is_filled and self._wanted in (None, shown)

    def look_at(self, rollout_id: int) -> None:
        """Show this answer from the next pull on."""
        self._wanted = rollout_id
        self.console.want()

    async def pull(self) -> None:
        """The wanted answer, else the run's newest, and who else is in its group."""
        row = self.console.row
        if row is None:
            return
        if row.name != self._run:
            if self._run:
                self._wanted = None
            self._run, self._stored = row.name, None
        if self._wanted is None:
            await self._want_newest()
        if self._wanted is None or (self._stored is not None and self._stored.id == self._wanted):
            return
        stored = (await self.console.ask(wire.GetSample(self._wanted), wire.Sample)).sample
        if self._stored is None or self._stored.group_id != stored.group_id:
            group = await self.console.ask(wire.GetGroup(stored.group_id), wire.GroupDetail)
            self._siblings = [sibling.id for sibling in group.rollouts]
        self._stored = stored
        self._tokens = read_tokens(stored.rollout, "\\n" if self.console.is_ascii else "↵")
        if not self._tokens.has(self._quantity):
            self._quantity = QUANTITIES[0]

    async def _want_newest(self) -> None:
        request = wire.GetSamples(self.console.run_name, limit=1, excerpt=1)
        newest = (await self.console.ask(request, wire.Samples)).samples
        if self._wanted is None:  # else somebody has asked for one meanwhile
            self._wanted = newest[0].id if newest else None

    def spot(self) -> Spot:
        """The answer, and what of it is shown."""
        return {"answer": str(self._stored.id), "quantity": self._quantity} if self._stored is not None else {}

    def return_to(self, spot: Spot) -> None:
        """To that answer."""
        if self._wanted is None and spot.get("answer", "").isdecimal():
            self._wanted = int(spot["answer"])
        if spot.get("quantity") in QUANTITIES:
            self._quantity = spot["quantity"]

    def copied(self) -> tuple[str, str] | None:
        """The answer."""
        return ("the answer", self._stored.rollout.text) if self._stored is not None else None

    # -- keys --

    @property
    def _view(self) -> TokenView:
        return self.query_one("#tokens", TokenView)

    def action_tokens_left(self) -> None:
        """The token before."""
        self._view.move_to(self._view.cursor - 1)

    def action_tokens_right(self) -> None:
        """The token after."""
        self._view.move_to(self._view.cursor + 1)

    def action_tokens_quantity(self) -> None:
        """Another quantity, of those that were recorded."""
        known = [name for name in QUANTITIES if self._tokens.has(name)]
        if len(known) < 2:
            self.console.say("nothing else was recorded of these tokens")
            return
        at = known.index(self._quantity) if self._quantity in known else -1
        self._quantity = known[(at + 1) % len(known)]
        self.paint()

    def action_tokens_signs(self) -> None:
        """Digits below the text, or colour alone."""
        self._has_signs = not self.has_signs
        self.paint()

    def action_tokens_hot(self) -> None:
        """The next token of the highest heat, from the beginning again after the last."""
        tokens = self._tokens.tokens
        hot = [token.number for token in tokens if self._tokens.heat(token, self._quantity) == 4]
        if not hot:
            self.console.say("no token is that hot")
            return
        self._view.move_to(next((number for number in hot if number > self._view.cursor), hot[0]))

    def action_tokens_next(self) -> None:
        """The next answer of the group."""
        self._go(1)

    def action_tokens_previous(self) -> None:
        """The answer before it."""
        self._go(-1)

    def _go(self, by: int) -> None:
        place = self._place
        if place is None:
            return
        if 0 <= place + by < len(self._siblings):
            self.look_at(self._siblings[place + by])
        else:
            self.console.say("this is the last answer of the group" if by > 0 else "this is the first of the group")

    def action_tokens_odds(self) -> None:
        """What each checkpoint makes of the answer."""
        open_odds(self.console, self._stored)

    def action_tokens_newest(self) -> None:
        """The newest answer of the run."""
        self._wanted = None
        self.console.want()

    @property
    def _place(self) -> int | None:
        stored = self._stored
        return self._siblings.index(stored.id) if stored is not None and stored.id in self._siblings else None

    def on_token_view_moved(self, _: TokenView.Moved) -> None:
        """Another token is under the cursor."""
        self.paint()

    def on_virtual_list_row_selected(self, event: VirtualList.RowSelected) -> None:
        """Go to a token of the list."""
        self._view.move_to(int(event.key))
        self._view.focus()

    def hand_over(self, other: ConsoleScreen) -> None:
        """The group of the answer."""
        if self._stored is not None and isinstance(other, GroupScreen):
            other.look_at(self._stored.group_id, self._stored.rollout.index)

    # -- painting --

    @property
    def has_signs(self) -> bool:
        """Whether heats stand as digits below the text: where there is no colour, or as a person wants it."""
        is_bare = self.console.is_ascii or "NO_COLOR" in os.environ
        return is_bare if self._has_signs is None else self._has_signs

    def paint(self) -> None:
        """Everything; the widgets repaint only what differs."""
        if not self.is_ready:
            return
        tokens = self._tokens
        if self._is_changed(tokens, self._quantity, self.has_signs, self.query_one("#tokens-side").display):
            self._view.show(tokens.text, tokens.spans(self._quantity), self.has_signs)
            self._paint_side()
        self._paint_head()
        self._paint_token()

    def _is_changed(self, *shown: object) -> bool:
        """Whether the text and what stands beside it are not yet painted as they are now: they are long."""
        is_same = len(self._shown) == len(shown) and all(
            old is new or old == new for old, new in zip(self._shown, shown, strict=True)
        )
        self._shown = shown
        return not is_same

    def _paint_head(self) -> None:
        head, legend = self.query_one("#tokens-head", TextLine), self.query_one("#tokens-legend", TextLine)
        stored = self._stored
        if stored is None:
            words = self.when_none("no answer is scored yet; the first come with the first step")
            head.show([Part(f" {words}", "dim")])
            legend.show([])
            return
        rollout = stored.rollout
        style = "bad" if rollout.is_correct is False or rollout.reward is None else "good"
        place = "" if self._place is None else f" ({self._place + 1} of {len(self._siblings)})"
        head.show(
            [
                Part(f" step {stored.step:,} answer {stored.group}.{rollout.index}{place}", "title"),
                Part(f"{verdict_sign(rollout)} {verdict_word(rollout)}", style, 1),
                Part(f"reward {reward_words(rollout)}", "plain", 2),
                Part(f"adv {rollout.advantage:+.2f}", "plain", 3),
                Part(finish_words(rollout), "plain", 4),
                Part(marks_cell(rollout.marks), "title", 5),
            ],
            [Part("4 its group", "dim", 6)],
        )
        legend.show(self._legend())

    def _legend(self) -> list[Part]:
        """What the heats of the quantity mean."""
        tokens, quantity = self._tokens, self._quantity
        if not tokens.has(quantity):
            return [Part(" nothing was recorded of these tokens", "warning")]
        first = [Part(f" {quantity}", "title"), Part(WORDS[quantity], "dim", 2)]
        if not tokens.has_places:
            return [*first, Part("where each token begins was not recorded: the figures go by number", "warning", 1)]
        low, middle, high = (_figure(quantity, band) for band in tokens.bands(quantity))
        words = (
            (f">= {low}", f">= {middle}", f">= {high}", f"< {high}")
            if quantity == "probability"
            else (f"< {low}", f">= {low}", f">= {middle}", f">= {high}")
        )
        return [*first, *(Part(f" {heat} {word} ", f"heat-{heat}") for heat, word in enumerate(words, start=1))]

    def _paint_side(self) -> None:
        if not self.query_one("#tokens-side").display:
            return
        quantity, tokens = self._quantity, self._tokens
        known = [token for token in tokens.tokens if token.probability is not None]
        least = sorted(known, key=lambda token: token.logp or 0.0)[:LISTED]
        self.query_one("#least-head", TextLine).show(
            [Part("least probable", "title")], [Part("Tab, Enter goes there", "dim", 1)]
        )
        self.query_one("#least", VirtualList).set_source(ListSource([_least_row(tokens, token) for token in least]))
        self.query_one("#spread-head", TextLine).show([Part(f"spread of the {quantity}", "title")])
        self.query_one("#spread", LineView).set_document(_spread(tokens, quantity))

    def _paint_token(self) -> None:
        figures, others = self.query_one("#token-figures", TextLine), self.query_one("#token-others", TextLine)
        tokens = self._tokens.tokens
        if not tokens:
            figures.show([])
            others.show([])
            return
        token = tokens[min(self._view.cursor, len(tokens) - 1)]
        text = f"`{token.text}`" if token.text else "adds no text" if self._tokens.has_places else ""
        figures.show(
            [
                Part(f" token {token.number + 1:,} of {len(tokens):,}", "title"),
                Part(text, "chosen"),
                Part(f"probability {_figure('probability', token.probability)}"),
                Part("" if token.logp is None else f"logp {token.logp:.2f}", "plain", 3),
                Part(f"entropy {_figure('entropy', token.entropy)}", "plain", 1),
                Part("" if token.value is None else f"value {token.value:+.3f}", "plain", 2),
            ]
        )
        number = Part(f" id {token.token_id}" if token.token_id is not None else "", "dim", 1)
        rest = [f"`{text}` {_figure('probability', math.exp(logp))}" for text, logp in token.alternatives]
        if rest:
            parts = [Part(words, "plain", drop) for drop, words in enumerate(rest, start=2)]
            others.show([number, Part(" most probable here", "dim"), *parts])
        else:
            others.show([number, Part(" what else was probable was not recorded: `stream.alternatives`", "dim")])


def _figure(quantity: str, value: float | None) -> str:
    """The quantity as people read it.

    >>> _figure("probability", 0.123), _figure("probability", 0.00001), _figure("entropy", None)
    ('12.3%', '0.001%', '-')
    """
    if value is None:
        return "-"
    if quantity == "probability":
        return f"{value:.1%}" if value >= 0.001 else f"{value:.3%}"
    return f"{value:.2f}" if quantity == "entropy" else f"{value:+.3f}"


def _least_row(tokens: TokenText, token: Token) -> ListRow:
    heat = tokens.heat(token, "probability")
    return ListRow(
        str(token.number),
        (
            Cell(str(heat), "bad" if heat == 4 else "warning" if heat == 3 else "dim"),
            token.text or ("" if token.token_id is None else f"id {token.token_id}"),
            f"{token.number + 1:,}",
            _figure("probability", token.probability),
            _figure("entropy", token.entropy),
        ),
    )


def _spread(tokens: TokenText, quantity: str) -> list[Paragraph]:
    """How many tokens have each heat, as bars."""
    counts = [0] * 5
    for token in tokens.tokens:
        counts[tokens.heat(token, quantity)] += 1
    most, total = max(1, *counts[1:]), max(1, sum(counts[1:]))
    bars = ["#" * round(count / most * BAR_CELLS) for count in counts]
    return [
        Paragraph.of(f" {heat} {counts[heat]:>6,} {counts[heat] / total:>6.1%} {bars[heat]}") for heat in range(1, 5)
    ]
