"""Where a copied text goes: the first of these that takes it, and which one it was.

    tmux       inside tmux: its buffer, and from there the clipboard of the terminal outside, if tmux may set it
    terminal   OSC 52, also through SSH; no terminal says whether it obeyed, so the text lies in the file too
    file       `clipboard.txt` in the ponder home

Deliberately left out: what is copied (the screens), and a local clipboard program, which over SSH would be that of the
wrong machine.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

TMUX_PATIENCE_S = 2.0
OSC_52_MOST_BYTES = 74_000
"""Encoded it is a third longer, and several terminals drop more than 100,000 characters."""


def copy(text: str, send: Callable[[str], bool], file: Path | None, environ: Mapping[str, str] | None = None) -> str:
    """Copy; returns where it went, in words. `send` is OSC 52, and says whether the driver can.

    Raises OSError when not even the file can be written.
    """
    if copy_to_tmux(text, os.environ if environ is None else environ):
        return "in tmux's buffer (prefix + ] pastes)"
    if file is not None:
        file.write_text(text, encoding="utf-8", errors="replace")
    if len(text.encode("utf-8", "replace")) <= OSC_52_MOST_BYTES and send(text):
        return "sent to the terminal's clipboard" + (f"; also in {file}" if file is not None else "")
    return f"in {file}" if file is not None else "nowhere: this console has no home to put it into"


def copy_to_tmux(text: str, environ: Mapping[str, str]) -> bool:
    """Whether tmux took it."""
    if not environ.get("TMUX"):
        return False
    for words in (["load-buffer", "-w", "-"], ["load-buffer", "-"]):  # `-w` is tmux 3.2 and later
        try:
            done = subprocess.run(
                ["tmux", *words], input=text.encode("utf-8", "replace"), capture_output=True,
                timeout=TMUX_PATIENCE_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode == 0:
            return True
    return False
