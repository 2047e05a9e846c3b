"""What every family makes has the property that it is named after."""

from dataclasses import replace

import numpy as np
import pytest

from outcrop.plugins import plugin_registry
from outcrop.stimuli import StimulusMaterial
from outcrop_probes.samples import SampleForm
from outcrop_probes.shown import make_stimuli
from outcrop_probes.stimuli import FAMILIES
from outcrop_probes.stimuli.changes import BASES
from outcrop_probes.stimuli.pictures import LUMA, amplitude_of, colour_of, fitted, outer

FORM = SampleForm("image", (24, 32, 3), np.asarray, np.asarray)
BY_NAME = {family.name: family for family in FAMILIES}
SIZE = (24, 32, 3)


def pictures(count, seed):
    """Smooth pictures within the middle of the range, so that nothing is clipped."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).standard_normal((count, *SIZE))
    smooth = gaussian_filter(noise, (0, 3, 3, 0))
    smooth /= np.abs(smooth).max(axis=(1, 2, 3), keepdims=True)
    return np.round(128 + 60 * smooth).astype(np.uint8)


def image_material(**options):
    real = pictures(12, 0)
    dominant = pictures(2, 1)
    dominant[:, :4], dominant[:, -4:], dominant[:, :, :4], dominant[:, :, -4:] = ((20, 40, 220),) * 4
    return StimulusMaterial(
        "image", SIZE, tuple(dominant), tuple(real[:5]), real.mean(axis=0), real.std(axis=0), **{"steps": 4, **options}
    )


def made(name, material=None):
    return {one.name: one for one in BY_NAME[name].stimuli(material or image_material())}


def at(name, level, material=None):
    return [one.sample.astype(float) for one in BY_NAME[name].stimuli_at(material or image_material(), level)]


def test_they_are_offered_by_the_plugin():
    assert plugin_registry().stimuli() == BY_NAME


def test_all_families_of_images_make_pictures_with_unique_names_the_same_every_time():
    shown = make_stimuli(FAMILIES, {"a": image_material(), "b": image_material(seed=1)}, FORM)
    names = [one.name for one in shown]
    assert len(set(names)) == len(names) > 200
    again = make_stimuli(FAMILIES, {"a": image_material(), "b": image_material(seed=1)}, FORM)
    for one, other in zip(shown, again, strict=True):
        np.testing.assert_array_equal(one.stimulus.sample, other.stimulus.sample)
    assert {one.family for one in shown} == {family.name for family in FAMILIES if family.takes == "image"}
    assert {one.made_for for one in shown if one.family == "solid"} == {""}
    assert {one.made_for for one in shown if one.family == "own_colour"} == {"a", "b"}


def test_for_grey_pictures_all_stimuli_are_grey_and_none_is_shown_twice():
    real = [np.repeat(one[:, :, :1], 3, axis=2) for one in pictures(7, 0)]
    mean, deviation = np.mean(real, axis=0), np.std(real, axis=0)
    material = StimulusMaterial("image", SIZE, tuple(real[:2]), tuple(real[2:]), mean, deviation, steps=4)
    shown = make_stimuli(FAMILIES, {"a": material}, replace(FORM, grey=True))
    for one in shown:
        assert np.ptp(one.stimulus.sample, axis=2).max() == 0
        assert one.stimulus.colour is None or len(set(one.stimulus.colour)) == 1
    assert [one.stimulus.colour for one in shown if one.family == "solid"] == [(v, v, v) for v in np.linspace(0, 1, 4)]
    # Without colour, all levels of saturation are the same, and channels in another order.
    assert sum(one.family == "saturation" for one in shown) == BASES
    assert sum(one.family == "colour_swap" for one in shown) == 2 * 2


def test_pictures_too_small_for_a_family_are_left_out_by_it():
    tiny = StimulusMaterial("image", (2, 2, 3), (np.zeros((2, 2, 3), np.uint8),), (), *np.zeros((2, 2, 2, 3)))
    shown = make_stimuli(FAMILIES, {"a": tiny}, FORM)
    assert {"solid", "own_colour", "gradient"} <= {one.family for one in shown}
    assert "patch_shuffled" not in {one.family for one in shown}


def test_solid_colours_are_a_grid_with_its_corners():
    shown = made("solid")
    colours = {one.colour for one in shown.values()}
    assert len(colours) == len(shown) == 4**3
    assert {(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.0, 0.0, 1.0)} <= colours
    for one in shown.values():
        assert one.sample.shape == SIZE
        np.testing.assert_allclose(one.sample / 255, np.broadcast_to(one.colour, SIZE), atol=0.5 / 255)
        assert one.sample.strides[:2] == (0, 0)


def test_own_colours_are_those_of_the_dominant_images():
    shown = made("own_colour")
    blue = (20 / 255, 40 / 255, 220 / 255)
    for place in ("corner pixel", "corners", "border"):
        assert shown[f"{place} of dominant image 1"].colour == pytest.approx(blue)
    mean = image_material().dominant[1].reshape(-1, 3).mean(axis=0) / 255
    assert shown["mean of dominant image 2"].colour == pytest.approx(tuple(mean))


def test_the_mean_image_is_the_mean():
    np.testing.assert_allclose(made("mean")["mean image"].sample, image_material().mean, atol=0.5)


def test_gratings_have_one_frequency():
    for name, one in made("grating").items():
        if "at 0" in name:
            cycles = int(name.split()[2])
            spectrum = np.abs(np.fft.rfft(one.sample[0, :, 0] - 127.5))
            # So many cycles to the shorter side, 24 of 32 columns.
            assert abs(spectrum.argmax() - cycles * 32 / 24) <= 0.5
    assert "grating of 16 cycles at 0" not in made("grating")


def test_the_finest_grating_that_pixels_can_show_is_no_plain_grey():
    square = StimulusMaterial("image", (32, 32, 3), (), (), *np.zeros((2, 32, 32, 3)))
    for angle in (0, 90):
        finest = made("grating", square)[f"grating of 16 cycles at {angle}"].sample
        assert (finest.min(), finest.max()) == (0, 255)
    for one in at("grating", 1.0, square):
        assert one.std() > 80


def test_gratings_of_a_level_have_contrast():
    assert np.ptp(at("grating", 0.5)[0]) > 200


def test_gradients_rise_from_black_to_white():
    sample = made("gradient")["gradient from left to right"].sample.astype(int)
    assert (np.diff(sample, axis=1) >= 0).all()
    assert (sample[:, 0].max(), sample[:, -1].min()) == (0, 255)


def test_noise_has_the_mean_and_deviation_of_the_data():
    material = image_material()
    real = np.stack(material.typical).reshape(-1, 3)
    white = np.stack([one.sample for name, one in made("noise").items() if "spectrum" not in name]).reshape(-1, 3)
    np.testing.assert_allclose(white.mean(axis=0), material.mean.reshape(-1, 3).mean(axis=0), atol=4)
    np.testing.assert_allclose(white.std(axis=0), real.std(axis=0), rtol=0.35)


@pytest.mark.parametrize(("mean", "deviation"), [(33, 78), (240, 40), (10, 12)])
def test_noise_of_dark_and_bright_data_has_its_mean_and_deviation_after_clipping(mean, deviation):
    flat = np.full((32, 32, 3), float(mean))
    material = StimulusMaterial("image", flat.shape, (), (), flat, np.full_like(flat, deviation))
    for one in made("noise", material).values():
        assert one.sample.mean() == pytest.approx(mean, abs=1.5)
        assert one.sample.std() == pytest.approx(deviation, rel=0.05)
    for sample in at("noise", 0.25, material):
        assert sample.std() == pytest.approx(deviation / 2, rel=0.05)
        assert sample.mean() == pytest.approx(mean, abs=1.5)


def test_noise_of_data_without_deviation_is_plain():
    flat = np.full((8, 8, 3), 77.0)
    material = StimulusMaterial("image", flat.shape, (), (), flat, np.zeros_like(flat))
    for one in made("noise", material).values():
        assert np.unique(one.sample).tolist() == [77]


def test_noise_of_a_natural_spectrum_has_that_of_typical_images():
    natural = made("noise")["noise of natural spectrum 1"].sample.astype(float)
    expected = np.mean([amplitude_of(one.astype(float)) for one in image_material().typical], axis=0)
    kept = expected > expected.max() / 1000
    ratio = amplitude_of(natural)[kept] / expected[kept]
    assert 0.95 < np.median(ratio) < 1.05


def test_levels_of_noise_are_deviations():
    deviations = [np.mean([one.std() for one in at("noise", level)]) for level in (0, 0.5, 1)]
    assert deviations[0] < 2
    assert deviations[2] == pytest.approx(2 * deviations[1], rel=0.15)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("brightness", 0.5),
        ("contrast", 0.5),
        ("saturation", 1 / 3),
        ("low_pass", 0.0),
        ("border", 0.0),
        ("dominant_border", 0.0),
        ("dark_spots", 0.0),
    ],
)
def test_every_change_has_a_level_that_changes_nothing(name, level):
    found = at(name, level)
    assert len(found) == BASES
    for sample, typical in zip(found, image_material().typical, strict=False):
        np.testing.assert_allclose(sample, typical, atol=0.5)


def test_brightness_goes_from_black_to_white():
    assert [np.mean(at("brightness", level)) for level in (0, 1)] == [0, 255]
    means = [np.mean(at("brightness", level)) for level in np.linspace(0, 1, 7)]
    assert (np.diff(means) > 0).all()


def test_contrast_and_saturation_are_multiples():
    deviations = [at("contrast", level)[0].std(axis=(0, 1)) for level in (0, 0.5, 1)]
    assert deviations[0].max() == 0
    np.testing.assert_allclose(deviations[2], 2 * deviations[1], rtol=0.02)
    grey = at("saturation", 0)[0]
    assert np.ptp(grey, axis=2).max() == 0
    np.testing.assert_allclose(grey[:, :, 0], image_material().typical[0] @ LUMA, atol=0.5)


def test_low_and_high_pass_take_frequencies():
    typical = image_material().typical[0].astype(float)
    deviation = typical.std(axis=(0, 1))
    assert (at("low_pass", 0.5)[0].std(axis=(0, 1)) < 0.85 * deviation).all()
    assert (at("low_pass", 1.0)[0].std(axis=(0, 1)) < at("low_pass", 0.5)[0].std(axis=(0, 1))).all()
    coarse = np.abs(amplitude_of(at("high_pass", 0.8)[0])[0, 1] / amplitude_of(typical)[0, 1])
    assert coarse.max() < 0.2
    np.testing.assert_allclose(at("high_pass", 0.8)[0].mean(axis=(0, 1)), typical.mean(axis=(0, 1)), atol=1)


def test_borders_grow_to_the_whole_image():
    own = image_material().typical[0].astype(float)
    half = at("border", 0.5)[0]
    ring = outer(*SIZE[:2], 6)
    assert np.ptp(half[ring], axis=0).max() == 0
    np.testing.assert_allclose(half[~outer(*SIZE[:2], 7)], own[~outer(*SIZE[:2], 7)])
    assert np.ptp(at("border", 1)[0], axis=(0, 1)).max() == 0
    np.testing.assert_allclose(at("dominant_border", 0.3)[0][0, 0], (20, 40, 220), atol=0.5)


def test_without_dominant_images_nothing_is_taken_from_them():
    material = image_material()
    bare = StimulusMaterial("image", SIZE, (), material.typical, material.mean, material.deviation)
    for family in FAMILIES:
        if family.takes == "image":
            family.stimuli(bare)
    np.testing.assert_array_equal(at("dominant_border", 0.5, bare)[0], material.typical[0])


def test_dark_spots_cover_up_to_half():
    typical = image_material().typical[0].astype(float)
    shares = [(at("dark_spots", level)[0] < 0.5 * typical).all(axis=2).mean() for level in (0, 0.5, 1)]
    assert shares[0] == 0
    assert shares[1] == pytest.approx(0.25, abs=0.06)
    assert shares[2] == pytest.approx(0.5, abs=0.1)


def test_a_blur_and_what_it_takes_make_up_the_image():
    found = made("filtered")
    dominant = image_material().dominant[0].astype(float)
    low = found["after a blur of 1/8 of dominant image 1"].sample.astype(float)
    high = found["without a blur of 1/8 of dominant image 1"].sample.astype(float)
    both = low + high - dominant.mean(axis=(0, 1))
    kept = (high > 0) & (high < 255)
    np.testing.assert_allclose(both[kept], dominant[kept], atol=1.1)


def test_random_phases_keep_the_spectrum_and_not_the_picture():
    dominant = image_material().typical[0]
    material = StimulusMaterial("image", SIZE, (dominant,), (), np.zeros(SIZE), np.zeros(SIZE))
    [one] = made("phase_scrambled", material).values()
    before, after = amplitude_of(dominant.astype(float)), amplitude_of(one.sample.astype(float))
    kept = before > before.max() / 1000
    assert np.median(np.abs(after[kept] / before[kept] - 1)) < 0.05
    assert abs(np.corrcoef(one.sample.ravel(), dominant.ravel())[0, 1]) < 0.6


def test_shuffled_patches_are_the_same_patches():
    dominant = image_material().dominant[0]
    shuffled = made("patch_shuffled")["shuffled patches of dominant image 1"].sample

    def patches(picture):
        return sorted(picture[y : y + 6, x : x + 8].tobytes() for y in range(0, 24, 6) for x in range(0, 32, 8))

    assert patches(shuffled) == patches(dominant)
    assert (shuffled != dominant).any()


def test_backgrounds_change_around_a_centre_that_stays():
    material = image_material()
    found = made("background_swap")["dominant image 1 before black"].sample
    np.testing.assert_array_equal(found[12, 16], material.dominant[0][12, 16])
    assert found[0, 0].max() == 0
    given = made("dominant_background")["typical image 1 before the border colour of dominant image 1"].sample
    np.testing.assert_array_equal(given[12, 16], material.typical[0][12, 16])
    np.testing.assert_array_equal(given[0, 0], (20, 40, 220))


def test_colours_are_swapped():
    found = made("colour_swap")
    assert len(found) == 2 * 6
    np.testing.assert_array_equal(found["dominant image 1 with channels bgr"].sample[0, 0], (220, 40, 20))
    np.testing.assert_array_equal(found["dominant image 1 in complementary colours"].sample[0, 0], (235, 215, 35))


def test_real_images_are_shown_as_they_are():
    np.testing.assert_array_equal(made("real")["dominant image 2"].sample, image_material().dominant[1])


def test_pictures_are_fitted_to_a_size():
    picture = pictures(1, 4)[0]
    assert fitted(picture, (12, 12, 3)).shape == (12, 12, 3)
    assert fitted(picture, SIZE) is picture
    assert colour_of(picture) == pytest.approx(tuple(picture.reshape(-1, 3).mean(axis=0) / 255))


def token_material(words=(7, 3, 9, 4)):
    sequences = (np.array([3, 3, 9, 4, 7, 3]), np.array([9, 7, 4, 4, 4, 4]))
    empty = np.zeros(6)
    return StimulusMaterial("tokens", (6,), sequences, sequences[::-1], empty, empty, vocabulary=words)


def test_sequences_of_tokens():
    material = token_material()
    assert [one.sample.tolist() for one in made("constant_token", material).values()] == [[t] * 6 for t in (7, 3, 9, 4)]
    for one in made("repeated_tokens", material).values():
        assert len(set(one.sample[::2].tolist())) == len(set(one.sample[1::2].tolist())) == 1
        assert one.sample[0] != one.sample[1]
    for one in made("random_tokens", material).values():
        assert set(one.sample.tolist()) <= {7, 3, 9, 4}
    own = made("own_token", material)
    assert [one.sample[0] for one in own.values()] == [3, 3, 3]
    shuffled = made("shuffled_tokens", material)["shuffled dominant sequence 2"].sample
    assert sorted(shuffled.tolist()) == [4, 4, 4, 4, 7, 9]


def test_padding_is_no_token_of_a_dominant_sequence():
    padded = np.array([9, 4, 4, 0, 0, 0])
    material = StimulusMaterial("tokens", (6,), (padded,), (), np.zeros(6), np.zeros(6), vocabulary=(4, 9))
    own = {name.split()[0]: one.sample[0] for name, one in made("own_token", material).items()}
    assert own == {"first": 9, "last": 4, "commonest": 4}


def test_a_vocabulary_of_one_token_has_no_pairs_and_no_dominant_sequence_no_tokens():
    material = token_material(words=(5,))
    assert made("repeated_tokens", material) == {}
    assert made("own_token", StimulusMaterial("tokens", (6,), (), (), np.zeros(6), np.zeros(6), (5,))) == {}


def array_material():
    mean, deviation = np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.5, 0.0])
    return StimulusMaterial("array", (3,), (np.array([1.0, 8.0, 3.0]),), (mean,), mean, deviation)


def test_arrays():
    material = array_material()
    constant = made("constant_array", material)
    np.testing.assert_allclose(constant["mean sample +3 deviations"].sample, (4, 3.5, 3))
    spikes = list(made("spike", material).values())
    np.testing.assert_allclose(spikes[0].sample, (1, 8, 3))
    np.testing.assert_allclose(spikes[1].sample, (1, 2, 3))
    np.testing.assert_allclose(at("scaled", 0.5, material)[0], (1, 8, 3))
    np.testing.assert_allclose(at("scaled", 1.0, material)[0], (1, 14, 3))
    noise = np.stack([one.sample for one in made("array_noise", material).values()])
    assert np.ptp(noise[:, 2]) == 0
    assert made("spike", StimulusMaterial("array", (3,), (), (), material.mean, material.deviation)) == {}
