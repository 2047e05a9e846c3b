"""What the samples share that the ``dominant`` analysis itself has found, from planted activations to words."""

import numpy as np

from outcrop.data import ImageArray
from outcrop.testing import planted_block, run_planted
from outcrop_dominant.analysis import DominantAnalysis

SAMPLES = 200
FAST = {
    "batch_size": 50,
    "fractions": (0, 0.1),
    "random_replicates": 2,
    "permutations": 499,
    "logistic_permutations": 2,
}


def planted(seed):
    return planted_block(samples=SAMPLES, layers=8, start=2, stop=7, seed=seed)


def carriers(layers):
    return np.argsort(-np.linalg.norm(layers["layer4"], axis=1))[: SAMPLES // 20]


def run(models, **given):
    return run_planted(DominantAnalysis, models, parameters=FAST, **given)


def test_two_seeds_of_which_one_is_blue_and_one_is_white_are_told_apart():
    models = {"blue": planted(0), "white": planted(1)}
    rng = np.random.default_rng(0)
    pictures = rng.normal(rng.uniform(70, 130, (SAMPLES, 1, 1, 3)), 15, (SAMPLES, 16, 16, 3))
    pictures[carriers(models["blue"]), ..., 2] += 80
    pictures[carriers(models["white"])] += 80
    labels = np.arange(SAMPLES) % 2
    labels[carriers(models["white"])] = 1
    images = ImageArray(np.clip(pictures, 0, 255).astype(np.uint8), labels=labels, classes=["dark", "light"])
    found = run(models, data=images)["association"]
    assert found["block_model"].values.tolist() == ["blue", "white"]
    assert found["is_block"].values.all()
    assert found["member_count"].values.tolist() == [10, 10]
    assert str(found["leading_statistic"].values[0]) in {"blue_minus_red", "blue_minus_yellow"}
    assert str(found["leading_statistic"].values[1]) == "brightness"
    assert found["class_share_dominant"].sel(class_name="light").values[1] == 1
    assert found["class_adjusted_p"].sel(class_name="light").values[1] < 0.05 < found["class_adjusted_p"].values[0, 0]
    assert "more of light (100%, of the rest " in found["evidence"].values[1]


def test_a_run_that_knows_nothing_of_its_samples_says_so():
    result = run({"net": planted(0)})
    assert "association" not in result
    assert result["references"].attrs["association"] == "not looked for: nothing is known of the samples"


def test_a_run_without_a_layer_to_judge_at_says_so():
    result = run({"net": {"layer0": np.ones((SAMPLES, 5), np.float32), "layer1": np.ones((SAMPLES, 5), np.float32)}})
    assert result["references"].attrs["association"] == "not looked for: no layer tells samples apart"
