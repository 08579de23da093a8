"""Styles as terminals speak them (SGR parameters): cleaned, compared, and changed in the fewest bytes.

Left out on purpose: what colours mean and where they come from (tui/theme.py).
"""

from __future__ import annotations

from functools import lru_cache


def looks_same(text: str, style: str, other: str) -> bool:
    """Whether a cell looks the same in both styles: a blank shows its background and its lines, not its ink."""
    return style == other or (text == " " and _behind(style) == _behind(other))


@lru_cache(maxsize=4096)
def _behind(style: str) -> tuple[frozenset[str], str, str]:
    """What of a style a blank shows."""
    attributes, ink, paper = _parts(style)
    if "7" in attributes:
        return attributes, ink, paper
    lines = attributes & {"4", "9", "21", "53"}
    return lines, ink if lines else "", paper


@lru_cache(maxsize=4096)
def style_change(old: str | None, new: str) -> str:
    """The shortest SGR that turns one clean style into another; None is not known.

    >>> style_change("1;38;5;7;48;5;0", "1;38;5;9;48;5;0"), style_change("1", ""), style_change("", "4;31")
    ('\\x1b[38;5;9m', '\\x1b[m', '\\x1b[4;31m')
    """
    whole = f"\x1b[0;{new}m" if new else "\x1b[m"
    if old is None:
        return whole
    old_attributes, old_ink, old_paper = _parts(old)
    attributes, ink, paper = _parts(new)
    if old_attributes - attributes:
        return whole
    codes = sorted(attributes - old_attributes)
    codes += [ink or "39"] if ink != old_ink else []
    codes += [paper or "49"] if paper != old_paper else []
    step = f"\x1b[{';'.join(codes)}m"
    return step if len(step) <= len(whole) else whole


@lru_cache(maxsize=4096)
def _parts(style: str) -> tuple[frozenset[str], str, str]:
    """Attributes, foreground and background of a clean style."""
    attributes: set[str] = set()
    ink = paper = ""
    codes = style.split(";") if style else []
    while codes:
        code = codes.pop(0)
        if code in ("38", "48"):
            length = 2 if codes[0] == "5" else 4
            whole = ";".join([code, *codes[:length]])
            codes = codes[length:]
        else:
            whole = code
        number = int(code)
        if 30 <= number <= 39 or 90 <= number <= 97:
            ink = "" if number == 39 else whole
        elif 40 <= number <= 49 or 100 <= number <= 107:
            paper = "" if number == 49 else whole
        else:
            attributes.add(whole)
    return frozenset(attributes), ink, paper


@lru_cache(maxsize=4096)
def clean_style(parameters: str, colour: bool) -> str:
    """SGR parameters as the toolkit may use them: no blinking, no hidden text, and no colour where none is wanted.

    >>> clean_style("1;38;2;1;2;3;4", colour=True), clean_style("1;38;2;1;2;3;4", colour=False), clean_style("0", True)
    ('1;38;2;1;2;3;4', '1;4', '')
    """
    codes = [int(part or 0) for part in parameters.split(";")]
    kept: list[int] = []
    index = 0
    while index < len(codes):
        code = codes[index]
        length = 1
        if code in (38, 48, 58):  # 58, the underline's own colour, is taken off with its parameters
            length = {5: 3, 2: 5}.get(codes[index + 1] if index + 1 < len(codes) else 0, 1)
            if colour and code != 58 and length > 1 and index + length <= len(codes):
                kept += codes[index : index + length]
        elif code == 0:
            kept.clear()
        elif code in (1, 2, 3, 4, 7, 9, 21, 53) or (colour and (30 <= code <= 49 or 90 <= code <= 107)):
            kept.append(code)
        index += length
    return ";".join(map(str, kept))
