"""How things look, found out once: the rules once a theme, the styles of a widget's parts once for all that are alike.

The toolkit reads every rule again whenever a screen comes up for the first time, and whenever a class, a focus or a
screen changes, it matches all of them against each part of each widget (a list's cursor, a text's turn): tenths of a
second of processor time in which no key is heard. Deliberately left out: the rules (`ponder.tcss`) and the colours
(`tui.theme`).
"""

from __future__ import annotations

from collections.abc import Hashable
from weakref import WeakKeyDictionary

from textual.css.model import RuleSet
from textual.css.styles import RulesMap
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode

RuleSet.__hash__ = object.__hash__  # type: ignore[method-assign]  # which is what its own says, 30,000 times a start


class ThriftyStyles(Stylesheet):
    """A stylesheet that does nothing twice.

    Which rules fit a part depends on the place of its widget: the types, names, classes and focus of all above it.
    """

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._theme = 0
        self._places: WeakKeyDictionary[DOMNode, Hashable] = WeakKeyDictionary()
        self._parts: dict[Hashable, RulesMap] = {}
        self._asked: dict[Hashable, frozenset[str]] = {}

    def set_variables(self, variables: dict[str, str]) -> None:
        """Take these variables; what was read with the same ones stays."""
        if variables != self._variables:
            super().set_variables(variables)
            self._require_parse = True
            self._theme += 1
            self._parts.clear()

    def reparse(self) -> None:
        """Read what was not read yet."""
        if self._require_parse:
            self.parse()

    def _process_component_classes(self, node: DOMNode) -> None:
        """Style the parts of a widget, unless it stands as it stood."""
        names = tuple(sorted(node._get_component_classes()))
        if not names:
            return
        counts = tuple(
            len(self.rules_map.get(f".{name}", ())) for name in names
        )  # rules are added and never taken away
        asked = self._asked_of(names, counts)
        path = tuple(
            (above._css_type_names & asked, above._id in asked and above._id, above.classes & asked,
             above._pseudo_classes_cache_key)
            for above in node.css_path_nodes
        )  # fmt: skip
        place = (self._theme, counts, path)
        if node._component_styles and self._places.get(node) == place:
            return
        self._places[node] = place
        before = node._component_styles.copy()
        node._component_styles.clear()
        for name in names:
            node._component_styles[name] = self._style_part(node, name, place).styles
        if any(before.get(name) != styles for name, styles in node._component_styles.items()):
            node.refresh()

    def _asked_of(self, names: tuple[str, ...], counts: tuple[int, ...]) -> frozenset[str]:
        """The types, names and classes that decide which rules of these parts fit."""
        found = self._asked.get((names, counts))
        if found is None:
            rules = (rule for name in names for rule in self.rules_map.get(f".{name}", ()))
            found = frozenset(
                selector.name for rule in rules for chain in rule.selector_set for selector in chain.selectors
            )
            self._asked[names, counts] = found
        return found

    def _style_part(self, node: DOMNode, name: str, place: Hashable) -> DOMNode:
        """A node that stands for the part, with its styles."""
        part = DOMNode(classes=name)
        part._attach(node)
        known = self._parts.get((name, place))
        if known is None:
            self.apply(part)
            self._parts[name, place] = part.styles.base.get_rules()
        else:
            self.replace_rules(part, known)
        return part
