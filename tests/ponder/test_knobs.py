"""Every knob is declared whole, and takes what fits and nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder import knobs
from ponder.errors import KnobError
from ponder.knobs import DECLARATIONS, Declaration, Knobs, check_value, flatten, get_value, with_value

NUMBERS = [knob for knob in DECLARATIONS.values() if knob.kind in ("int", "float")]
ALL = list(DECLARATIONS.values())


def names(knob: Declaration) -> str:
    return knob.name


@pytest.mark.parametrize("knob", NUMBERS, ids=names)
def test_every_number_has_both_bounds_and_its_default_between_them(knob: Declaration) -> None:
    assert knob.low is not None and knob.high is not None
    assert isinstance(knob.default, int | float)
    assert knob.low <= knob.default <= knob.high
    assert ".." in knob.bounds


@pytest.mark.parametrize("knob", ALL, ids=names)
def test_every_knob_says_what_it_does_in_one_sentence(knob: Declaration) -> None:
    assert len(knob.doc) > 10 and not knob.doc.endswith(".") and not knob.doc[0].islower()
    assert knob.bounds and check_value(knob.name, knob.default) == knob.default


@pytest.mark.parametrize("knob", ALL, ids=names)
def test_a_default_typed_by_a_person_is_the_default(knob: Declaration) -> None:
    assert check_value(knob.name, knobs.format_value(knob.default)) == pytest.approx(knob.default)


@pytest.mark.parametrize("knob", NUMBERS, ids=names)
@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "-inf", "1e999", "0x10", "1,5", "true"])
def test_no_number_takes_what_is_none(knob: Declaration, value: str) -> None:
    with pytest.raises(KnobError) as caught:
        check_value(knob.name, value)
    assert knob.bounds in caught.value.hint


@pytest.mark.parametrize("knob", NUMBERS, ids=names)
def test_no_number_takes_what_lies_outside_its_bounds(knob: Declaration) -> None:
    assert knob.low is not None and knob.high is not None
    for value in (knob.low - 1, knob.high + 1, math.nan, math.inf):
        with pytest.raises(KnobError):
            check_value(knob.name, int(value) if knob.kind == "int" and math.isfinite(value) else value)


def test_an_unknown_knob_names_the_nearest_one() -> None:
    for word, meant in (("optim.lrr", "optim.lr"), ("lr", "optim.lr"), ("sampling.groupsize", "sampling.group_size")):
        with pytest.raises(KnobError) as caught:
            check_value(word, 1)
        assert meant in caught.value.hint


def test_choices_and_switches_take_their_words() -> None:
    assert check_value("policy.normaliser", "sequence") == "sequence"
    assert check_value("policy.drop_flat_groups", "False") is False
    for name, value in (("policy.normaliser", "tokens"), ("policy.drop_flat_groups", "maybe")):
        with pytest.raises(KnobError):
            check_value(name, value)


@given(st.sampled_from(NUMBERS), st.floats(0.0, 1.0))
def test_a_knob_that_was_turned_reads_back_what_it_was_turned_to(knob: Declaration, share: float) -> None:
    assert knob.low is not None and knob.high is not None
    value = knob.low + (knob.high - knob.low) * share * 0.999
    wanted = int(value) if knob.kind == "int" else value
    turned = with_value(Knobs(), knob.name, wanted)
    assert get_value(turned, knob.name) == wanted
    untouched = {name: value for name, value in flatten(turned).items() if name != knob.name}
    assert untouched == {name: value for name, value in flatten(Knobs()).items() if name != knob.name}
