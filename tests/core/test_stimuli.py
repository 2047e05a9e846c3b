"""Families of stimuli: what they make is held against what the data's samples are."""

import numpy as np
import pytest

import outcrop
from outcrop.errors import ParameterError
from outcrop.stimuli import LEVELS, Stimulus, StimulusFamily, StimulusMaterial

GREY = np.full((4, 5, 3), 128, np.uint8)


def material(takes="image", shape=(4, 5, 3), **options) -> StimulusMaterial:
    zeros = np.zeros(shape)
    return StimulusMaterial(takes, shape, (), (), zeros, zeros, **options)


def family(make, takes="image") -> StimulusFamily:
    return StimulusFamily("mine", "my own", takes=takes, make=make)


def faded(_, level):
    return [Stimulus(f"grey {level:g}", np.full((4, 5, 3), round(255 * level), np.uint8), level=level)]


def test_they_are_public():
    assert (outcrop.Stimulus, outcrop.StimulusFamily, outcrop.StimulusMaterial) == (
        Stimulus,
        StimulusFamily,
        StimulusMaterial,
    )


def test_a_family_makes_its_stimuli_of_the_material():
    made = family(lambda found: [Stimulus("dark", np.zeros(found.shape, np.uint8))]).stimuli(material())
    assert [one.name for one in made] == ["dark"]
    assert made[0].sample.shape == (4, 5, 3)


def test_a_family_of_one_parameter_is_shown_at_five_levels():
    found = StimulusFamily("faded", "grey", takes="image", at=faded)
    assert [one.level for one in found.stimuli(material())] == list(LEVELS)
    assert found.stimuli_at(material(), 0.3)[0].name == "grey 0.3"


def test_levels_that_make_the_same_are_shown_once():
    def halves(_, level):
        return faded(_, round(level))

    found = StimulusFamily("halves", "grey", takes="image", at=halves).stimuli(material())
    assert [one.name for one in found] == ["grey 0", "grey 1"]


def test_randomness_is_of_the_family_and_the_seed():
    draws = [material(seed=seed).rng(name).integers(1 << 40) for seed, name in [(0, "a"), (0, "a"), (0, "b"), (1, "a")]]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_identity_is_name_and_version():
    assert family(list).identity == "mine@1.0"


def test_a_family_must_be_for_a_kind_of_sample_and_make_something():
    with pytest.raises(ParameterError, match="'mine' takes 'sounds'; expected one of 'image', 'tokens', 'array'"):
        family(list, takes="sounds")
    with pytest.raises(ParameterError, match="'mine' makes nothing; give it 'make' or 'at'"):
        family(None)
    with pytest.raises(ParameterError, match="'mine' has no levels; give it 'at'"):
        family(list).stimuli_at(material(), 0.5)


@pytest.mark.parametrize(
    ("takes", "shape", "made", "message"),
    [
        ("image", (4, 5, 3), 7, "made int; expected a list of outcrop.Stimulus"),
        ("image", (4, 5, 3), [GREY], "made list; expected a list of outcrop.Stimulus"),
        ("image", (4, 5, 3), [Stimulus("a", GREY), Stimulus("a", GREY)], "made 2 stimuli of 1 names"),
        (
            "image",
            (4, 5, 3),
            [Stimulus("a", GREY / 255)],
            r"family 'mine' is float64 .*expected uint8 \(y, x, 3\)",
        ),
        ("image", (4, 5, 3), [Stimulus("a", GREY[:, :, 0])], r"is uint8 of shape \(4, 5\)"),
        ("tokens", (6,), [Stimulus("a", np.zeros(5, int))], r"of shape \(5,\); expected whole numbers of shape \(6,\)"),
        (
            "array",
            (6,),
            [Stimulus("a", np.zeros(6, int))],
            r"is int64 of shape \(6,\); expected floats",
        ),
    ],
)
def test_what_is_no_stimulus_is_refused(takes, shape, made, message):
    with pytest.raises(ParameterError, match=message):
        family(lambda _: made, takes).stimuli(material(takes, shape))


@pytest.mark.parametrize(
    ("takes", "shape", "sample"),
    [
        ("image", (4, 5, 3), np.zeros((9, 8, 3), np.uint8)),
        ("tokens", (6,), np.zeros(6, np.int32)),
        ("array", (2, 6), np.zeros((2, 6), np.float32)),
    ],
)
def test_images_may_be_of_any_size_and_all_else_has_the_shape_of_samples(takes, shape, sample):
    [made] = family(lambda _: [Stimulus("a", sample)], takes).stimuli(material(takes, shape))
    assert made.sample is sample
