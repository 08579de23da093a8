"""Promises of the sanitiser: nothing a terminal obeys comes out, everything stays visible, offsets stay true.

T-numbers are those of the threat list the console is built against (C0, C1, sequences, split sequences, bidi,
invisible characters, combining floods, wide characters, surrogates, size).
"""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.output import write_over
from ponder.safe_text import MAX_COMBINING, cell_width, safe_line, safe_text, sanitise
from tests.peers.attacks import BIDI, INVISIBLE, SEQUENCES, TERMINATORS, is_harmless

# Mostly trouble, sometimes prose.
hostile_text = st.text(
    alphabet=st.one_of(
        st.sampled_from("ab \n\t\r\x1b[]m;?\x07\x9b\u202e\u0301\u0302\u200d\ufe0f漢👍\ud800\u2028"),
        st.characters(),
    ),
    max_size=60,
)


@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
def test_t1_each_c0_control_becomes_a_visible_picture(code: int) -> None:
    safe = sanitise(f"a{chr(code)}b")
    if chr(code) in "\n\t":
        assert safe.text == f"a{chr(code)}b" and safe.replaced == 0
    else:
        picture = "\u2421" if code == 0x7F else chr(0x2400 + code)
        assert safe.text == f"a{picture}b" and safe.replaced == 1


@pytest.mark.parametrize("code", range(0x80, 0xA0))
def test_t2_each_c1_control_is_spelled_out(code: int) -> None:
    assert safe_text(chr(code)) == f"‹U+{code:04X}›"
    raw_byte = bytes([code]).decode("utf-8", errors="surrogateescape")
    assert is_harmless(safe_text(raw_byte))


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("end", TERMINATORS)
def test_t3_and_t4_sequences_are_harmless_whole_and_split_in_two_anywhere(sequence: str, end: str) -> None:
    text = f"before {sequence}{end} after"
    assert is_harmless(safe_text(text))
    for cut in range(len(text)):
        assert safe_text(text[:cut]) + safe_text(text[cut:]) == safe_text(text)


@pytest.mark.parametrize("character", [*BIDI, *INVISIBLE])
def test_t5_and_t6_bidi_and_invisible_characters_are_spelled_out_and_counted(character: str) -> None:
    safe = sanitise(f"a{character}b")
    assert safe.text == f"a‹U+{ord(character):04X}›b"
    assert safe.spans == ((1, len(safe.text) - 1),)
    assert safe.badge == "1 control char"


def test_t7_a_flood_of_combining_marks_keeps_four() -> None:
    safe = sanitise("e" + "\u0301" * 1000 + "x")
    assert safe.text == "e" + "\u0301" * MAX_COMBINING + "‹+996 marks›x"
    assert safe.replaced == 996


@pytest.mark.parametrize("text", ["\u0301", "\n\u0301", "a\x1b\n\u0301"])
def test_t7_a_mark_without_a_letter_cannot_sit_on_what_is_drawn_before_it(text: str) -> None:
    assert "\u0301" not in safe_text(text)


ORDINARY = ["漢字かな交じり文", "👍🎉", "naïve café", "Привет", "∑ x² ≤ ½ → ∞", "e\u0301", "नमस्ते", "a\tb\n"]


@pytest.mark.parametrize("text", ORDINARY)
def test_t8_ordinary_writing_of_any_language_is_left_alone(text: str) -> None:
    assert sanitise(text).text == text


def test_t8_a_joined_family_shows_its_joiners() -> None:
    assert safe_text("👨\u200d👩") == "👨‹U+200D›👩"


def test_t9_surrogates_and_nul_can_be_encoded_afterwards() -> None:
    assert safe_text("a\ud800b\x00").encode() == "a‹U+D800›b␀".encode()


def test_t10_a_long_line_and_a_million_lines_are_quick() -> None:
    start = time.monotonic()
    long_line = sanitise("x" * 10_000_000)
    assert long_line.text == "x" * 4000 + "… 9,996,000 more"
    assert long_line.offset(10_000_000) == len(long_line.text)
    assert safe_text("\n" * 1_000_000) == "\n" * 1_000_000
    assert len(safe_text("<think>" * 100_000)) < 4100
    assert time.monotonic() - start < 5


def test_cr_lf_becomes_lf_and_a_lonely_cr_becomes_visible() -> None:
    safe = sanitise("a\r\nb\rc\r")
    assert safe.text == "a\nb␍c␍"
    assert safe.replaced == 2
    assert safe.text[safe.offset(3)] == "b"


def test_each_long_line_is_cut_on_its_own() -> None:
    safe = sanitise("short\n" + "y" * 30 + "\r\nend", max_line=10)
    assert safe.text == "short\n" + "y" * 10 + "… 20 more\nend"
    assert safe.replaced == 0
    assert safe.text[safe.offset(len("short\n") + 32) :] == "end"


def test_one_line_shows_its_newlines_and_is_cut_by_cells() -> None:
    assert safe_line("a\nb\tc") == "a␊b␉c"
    assert safe_line("漢字漢字", 5) == "漢字…"
    assert safe_line("漢字", 4) == "漢字"
    assert safe_line("abc", 3) == "abc"
    assert safe_line("abcd", 3) == "ab…"
    assert safe_line("abc", 0) == ""
    assert safe_line("z" * 5000) == "z" * 4000 + "… 1,000 more"


@given(hostile_text, st.integers(0, 12))
def test_one_line_never_exceeds_its_width(text: str, width: int) -> None:
    line = safe_line(text, width)
    assert is_harmless(line) and "\n" not in line and "\t" not in line
    assert sum(map(cell_width, line)) <= width


@given(hostile_text)
@settings(max_examples=300)
def test_whatever_comes_out_is_harmless_and_encodable(text: str) -> None:
    safe = sanitise(text)
    assert is_harmless(safe.text)
    safe.text.encode()
    assert sanitise(safe.text).text == safe.text
    assert all(0 <= start < end <= len(safe.text) for start, end in safe.spans)


@given(hostile_text, st.integers(1, 20))
@settings(max_examples=300)
def test_offsets_never_decrease_and_find_every_kept_character(text: str, max_line: int) -> None:
    safe = sanitise(text, max_line=max_line)
    offsets = [safe.offset(index) for index in range(len(text) + 1)]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0 and offsets[-1] == len(safe.text)
    kept = [index for index in range(len(text)) if not any(start <= index < end for start, end, *_ in safe._edits)]
    assert all(safe.text[safe.offset(index)] == text[index] for index in kept)
    assert all(safe.offset(index + 1) == safe.offset(index) + 1 for index in kept)


@given(st.lists(hostile_text, min_size=1, max_size=4))
def test_a_mark_around_a_word_still_covers_that_word(parts: list[str]) -> None:
    before = "".join(parts)
    text = before + "\nWait, no.\n" + before
    safe = sanitise(text, max_line=10_000)
    start = len(before) + 1
    assert safe.text[safe.offset(start) : safe.offset(start + 9)] == "Wait, no."


def test_the_sanitiser_is_light_to_import() -> None:
    code = "import sys, ponder.safe_text; print([m for m in ('rich', 'textual', 'msgspec', 'zmq') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["a" * 300, "思" * 300, "\x1b[31m" + "é" * 300, "short"])
def test_a_line_that_is_written_over_never_wraps(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_over(text)
    written = capsys.readouterr().err.removeprefix("\r\x1b[K")
    width = sum(map(cell_width, written))
    assert width <= 79 and (width >= 78 or written == text)
    assert safe_line(text).startswith(written)
