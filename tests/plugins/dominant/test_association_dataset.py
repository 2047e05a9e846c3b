"""What planted samples share is named first; what nothing is known of, is alike or is too few, is said in words."""

import functools

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

from outcrop import Context
from outcrop.analysis.references import Reference
from outcrop.data import ArrayData, ImageArray
from outcrop.errors import AnalysisError
from outcrop.numerics import auroc
from outcrop_dominant.association import association_dataset
from outcrop_dominant.parameters import DominantParameters
from outcrop_schemas import KINDS

SAMPLES = 400
SIDE = 32
Y, X = np.mgrid[:SIDE, :SIDE]
MEMBERS = np.arange(SAMPLES) % 20 == 3


def reference(model: str = "net") -> Reference:
    return Reference(model=model, layers=("stage1", "stage2"), layer="stage2", is_block=True, evidence="a block")


@functools.cache
def _photos() -> np.ndarray:
    """Smooth coloured noise with grain and bright spots, of contrasts and colours of their own, 0 to 1."""
    rng = np.random.default_rng(0)
    rough = rng.normal(size=(SAMPLES, SIDE, SIDE, 3))
    smooth = gaussian_filter(rough, (0, 4, 4, 0))
    smooth /= smooth.std(axis=(1, 2, 3), keepdims=True)
    base = rng.uniform(0.35, 0.55, (SAMPLES, 1, 1, 3))
    contrast, grain = rng.uniform((0.03, 0.02), (0.15, 0.08), (SAMPLES, 2)).T[..., None, None, None]
    values = base + contrast * smooth + grain * rough
    for own in values:
        for y, x in rng.uniform(0, SIDE, (rng.integers(7), 2)):
            own[np.hypot(Y - y, X - x) < 4] += 0.25
    return np.clip(values, 0, 1)


def photos() -> np.ndarray:
    return _photos().copy()


def images(values: np.ndarray, **given) -> ImageArray:
    return ImageArray(np.round(values * 255).astype(np.uint8), **given)


def associate(data=None, members=MEMBERS, *, described=None, models=("net",), **parameters):
    members = np.atleast_2d(members)
    context = Context(
        (), sample_count=members.shape[1], data=data, described=None if described is None else lambda: described
    )
    options = DominantParameters(**{"permutations": 499, "logistic_permutations": 2, **parameters})
    found = association_dataset(context, [reference(model) for model in models], members, options)
    if found is not None:
        KINDS["association"].validate(found)
    return found


def numbers(values: np.ndarray, **attributes) -> xr.Dataset:
    """Samples of which ``values`` (statistic, sample) are known."""
    names = [f"statistic{row}" for row in range(len(values))]
    known = {name: ("sample", own, {"long_name": f"the {name}"}) for name, own in zip(names, values, strict=True)}
    return xr.Dataset(known, {"sample": np.arange(values.shape[1]).astype(str)}, attributes)


def blue_background(values: np.ndarray) -> None:
    around = np.hypot(Y - 15.5, X - 15.5) > 10
    chosen = values[MEMBERS]
    chosen[:, around] += np.array([-0.15, -0.1, 0.4])
    values[MEMBERS] = chosen


def brightness(values: np.ndarray) -> None:
    values[MEMBERS] += 0.3


def dark_spots(values: np.ndarray) -> None:
    chosen = values[MEMBERS]
    for y, x in ((8, 9), (20, 22), (24, 7)):
        chosen[:, np.hypot(Y - y, X - x) < 4] -= 0.35
    values[MEMBERS] = chosen


def low_frequency(values: np.ndarray) -> None:
    # As much contrast as before, all of it coarse.
    chosen = values[MEMBERS]
    smooth = gaussian_filter(chosen, (0, 3, 3, 0))
    smooth -= smooth.mean(axis=(1, 2), keepdims=True)
    scale = chosen.std(axis=(1, 2), keepdims=True) / smooth.std(axis=(1, 2), keepdims=True)
    values[MEMBERS] = chosen.mean(axis=(1, 2), keepdims=True) + smooth * scale


def plain_border(values: np.ndarray) -> None:
    chosen = values[MEMBERS]
    inside = chosen[:, 2:-2, 2:-2].copy()
    chosen[:] = chosen.mean(axis=(1, 2), keepdims=True)
    chosen[:, 2:-2, 2:-2] = inside
    values[MEMBERS] = chosen


@pytest.mark.parametrize(
    ("plant", "expected", "higher"),
    [
        (blue_background, {"border_blue", "blue_minus_red", "blue_minus_yellow"}, True),
        (brightness, {"brightness"}, True),
        (dark_spots, {"dark_spot_share"}, True),
        (low_frequency, {"low_frequency_share"}, True),
        (plain_border, {"border_homogeneity"}, True),
    ],
)
def test_the_statistic_that_was_planted_is_named_first(plant, expected, higher):
    values = photos()
    plant(values)
    found = associate(images(np.clip(values, 0, 1)), logistic_permutations=20).isel(block=0)
    leader = found["leading_statistic"].item()
    assert leader in expected
    first = found.sel(statistic=leader)
    assert first["auroc"] > 0.95
    assert first["adjusted_p"] <= 0.05
    assert (first["mean_dominant"] > first["mean_rest"]) == higher
    assert found["logistic_auroc"] > 0.95 > 0.7 > found["logistic_null_high"]
    assert found["logistic_p_value"] == pytest.approx(1 / 21)
    title = first["statistic_title"].item()
    named = f"they have a higher {leader.replace('_', ' ')} ({title}: "
    assert f"20 of 400 samples are dominant; {named}" in found["evidence"].item()


def test_nothing_planted_is_nothing_found():
    found = associate(images(photos()), logistic_permutations=20).isel(block=0)
    assert found["leading_statistic"].item() == ""
    assert found["logistic_p_value"] > 0.05
    nearest = found["statistic"].values[found["rank"].values == 1].item().replace("_", " ")
    assert f"no statistic tells them from the rest, nearest {nearest} (" in found["evidence"].item()


def test_models_of_two_seeds_stand_side_by_side():
    values = photos()
    others = np.roll(MEMBERS, 7)
    values[MEMBERS, ..., 2] += 0.4
    values[others] += 0.4
    found = associate(images(np.clip(values, 0, 1)), np.stack([MEMBERS, others]), models=("first", "second"))
    assert found["block_model"].values.tolist() == ["first", "second"]
    assert found["leading_statistic"].values.tolist() == ["blue_minus_yellow", "brightness"]
    assert found["first_layer"].values.tolist() == ["stage1"] * 2
    assert found["last_layer"].values.tolist() == found["reference_layer"].values.tolist() == ["stage2"] * 2
    assert found["member_count"].values.tolist() == [20, 20]
    assert found["is_block"].values.all()
    assert found.sizes == {"block": 2, "statistic": 26}


def test_means_are_in_the_units_of_the_statistic_and_areas_are_those_of_its_values():
    rng = np.random.default_rng(0)
    values = rng.normal(100, 5, (2, 60))
    values[1, ::4] = np.nan
    members = np.arange(60) < 12
    known = numbers(values)
    known["statistic0"].attrs["units"] = "bit"
    found = associate(members=members, described=known).isel(block=0)
    assert found["statistic"].values.tolist() == ["statistic0", "statistic1"]
    assert found["statistic_title"].values.tolist() == ["the statistic0", "the statistic1"]
    assert found["statistic_units"].values.tolist() == ["bit", ""]
    np.testing.assert_allclose(found["mean_dominant"], np.nanmean(values[:, members], axis=1))
    np.testing.assert_allclose(found["mean_rest"], np.nanmean(values[:, ~members], axis=1))
    np.testing.assert_array_equal(found["auroc"], auroc(values, members))
    assert np.isnan(found["coefficient"].values).tolist() == [False, True]  # a quarter is missing


def test_a_lower_statistic_is_said_to_be_lower():
    values = np.random.default_rng(0).normal(size=(1, 200))
    members = np.arange(200) < 20
    values[0, members] -= 3
    text = associate(members=members, described=numbers(values))["evidence"].item()
    assert "20 of 200 samples are dominant; they have a lower statistic0 (the statistic0: -3.18 against 0.0373" in text
    assert "all statistics together reach an AUROC of 0.9" in text
    assert text.endswith("for samples drawn at random; labels are not known")
    alone = associate(members=members, described=numbers(values), logistic_permutations=0)
    assert alone["evidence"].item().endswith("on samples not seen; labels are not known")
    assert np.isnan(alone["logistic_null"]).all()
    assert np.isnan(alone["logistic_p_value"]).all()
    assert alone["logistic_auroc"].item() > 0.9


def test_classes_that_are_more_or_less_frequent_are_named_with_their_shares():
    labels = np.concatenate([np.repeat([0, 1], [18, 2]), np.tile([0, 1, 2, 4], 45)])
    members = np.arange(200) < 20
    known = numbers(np.random.default_rng(0).normal(size=(1, 200)), classes=["cat", "dog", "frog"])
    known["label"] = ("sample", labels)
    found = associate(members=members, described=known).isel(block=0)
    assert found["class_name"].values.tolist() == ["cat", "dog", "frog", "class 4"]
    assert found["class_share_dominant"].values.tolist() == [0.9, 0.1, 0, 0]
    assert found["class_share_rest"].values.tolist() == [0.25] * 4
    assert found["class_adjusted_p"].values[0] < 1e-6
    text = found["evidence"].item()
    assert "; more of cat (90%, of the rest 25%); fewer of frog (0%, of the rest 25%), class 4 (0%, of the" in text
    even = associate(members=np.random.default_rng(1).permutation(members), described=known)["evidence"].item()
    assert "no class is more or less frequent among them for certain" in even


def test_many_telling_classes_are_counted():
    labels = np.repeat([0, 1, 2, 3, 4, 5], [100, 100, 100, 100, 300, 300])
    known = numbers(np.zeros((1, 1000)))
    known["label"] = ("sample", labels)
    members = (labels < 4) & (np.arange(1000) % 2 == 0)
    text = associate(members=members, described=known)["evidence"].item()
    assert "more of class 0 (25%, of the rest 6%), class 1 (25%, of the rest 6%), class 2" in text
    assert text.endswith("and 1 other classes; fewer of class 4 (0%, of the rest 38%), class 5 (0%, of the rest 38%)")


def test_one_class_labels_without_a_name_and_no_label_at_all():
    known = numbers(np.random.default_rng(0).normal(size=(2, 100)))
    members = np.arange(100) < 10
    known["label"] = ("sample", np.full(100, 7))
    assert "all are of the class class 7" in associate(members=members, described=known)["evidence"].item()
    known["label"] = ("sample", np.full(100, -1))
    found = associate(members=members, described=known)
    assert "labels are not known" in found["evidence"].item()
    assert "class_name" not in found.variables


def test_grey_pictures_have_no_colour_to_share():
    grey = np.repeat(photos()[..., :1], 3, axis=3)
    grey[MEMBERS] = np.clip(grey[MEMBERS] + 0.4, 0, 1)
    found = associate(images(grey)).isel(block=0)
    colours = found.sel(statistic=["saturation", "red_minus_green", "blue_minus_red", "blue_minus_yellow"])
    for name in ("auroc", "effect", "p_value", "adjusted_p", "familywise_p", "coefficient"):
        assert np.isnan(colours[name]).all()
    assert sorted(colours["rank"].values) == [23, 24, 25, 26]
    assert found["leading_statistic"].item() == "brightness"


def test_constant_pictures_are_said_to_be_alike():
    plain = ImageArray(np.full((40, 16, 16, 3), 90, dtype=np.uint8))
    found = associate(plain, np.arange(40) < 4).isel(block=0)
    assert "all samples are alike in each of the 26 statistics" in found["evidence"].item()
    assert np.isnan(found["auroc"]).all()
    assert np.isnan(found["logistic_auroc"])
    assert np.isnan(found["logistic_null"])
    assert found["leading_statistic"].item() == ""


@pytest.mark.parametrize("count", [0, 1, 29, 30])
def test_too_few_on_a_side_are_said_to_be_too_few(count):
    values = np.arange(30.0)[np.newaxis]
    found = associate(members=np.arange(30) < count, described=numbers(values)).isel(block=0)
    expected = f"{count} of 30 samples are dominant: too few on one side to tell what they share"
    assert found["evidence"].item() == expected
    assert found["leading_statistic"].item() == ""
    assert found["member_count"] == count


def test_numbers_of_arrays_are_statistics_too_and_labels_alone_are_enough():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 50))
    members = np.arange(100) < 10
    values[members] *= 3
    found = associate(ArrayData(values), members).isel(block=0)
    assert set(found["statistic"].values.tolist()) == {"value_mean", "value_standard_deviation", "value_norm"}
    assert found["leading_statistic"].item() in {"value_standard_deviation", "value_norm"}
    tokens = ArrayData({"ids": np.ones((100, 7), dtype=np.int64)}, labels=np.arange(100) % 2, classes=["a", "b"])
    found = associate(tokens, members).isel(block=0)
    assert found.sizes["statistic"] == 0
    assert "10 of 100 samples are dominant; no statistics are known of them; no class is" in found["evidence"].item()


def test_where_nothing_is_known_there_is_nothing_to_say():
    members = np.arange(30) < 5
    assert associate(members=members) is None
    assert associate(members=members, described=numbers(np.empty((0, 30)))) is None
    assert associate(ArrayData({"ids": np.ones((30, 7), dtype=np.int64)}), members) is None
    none = np.empty((0, 30), dtype=bool)
    assert associate(members=none, described=numbers(np.zeros((1, 30))), models=()) is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        AnalysisError, match=r"dominant samples have shape \(1, 30\); expected .* 2 blocks and 30 samples"
    ):
        associate(members=np.arange(30) < 5, described=numbers(np.zeros((1, 30))), models=("a", "b"))
    with pytest.raises(AnalysisError, match="Statistics are known of 20 samples and activations of 30; give the data"):
        associate(members=np.arange(30) < 5, described=numbers(np.zeros((1, 20))))


def test_the_seed_of_the_run_decides_and_more_permutations_lower_the_least_p():
    known = numbers(np.random.default_rng(0).normal(size=(3, 80)))
    members = np.arange(80) < 16
    first, again = (associate(members=members, described=known) for _ in range(2))
    assert first.identical(again)
    assert first.attrs["permutations"] == 499
    known["statistic0"] = ("sample", members + 0.1 * np.arange(80) / 80)
    for permutations in (99, 999):
        found = associate(members=members, described=known, permutations=permutations)
        assert found["p_value"].values[0, 0] == pytest.approx(1 / (permutations + 1))
