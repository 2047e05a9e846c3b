import numpy as np
import pytest

from outcrop.report.figure import Run
from outcrop.report.similarity.pairwise import draw_pairwise
from outcrop.report.similarity.per_layer import unconverged_layers
from outcrop.report.tables import draw_blocks
from outcrop.report.verdicts import read_verdicts


@pytest.fixture
def verdicts(make_run):
    def read(models, **options):
        return read_verdicts(Run("blocks", "r1", make_run(models, **options)))

    return read


def test_a_block_is_told_with_its_layers_its_evidence_and_its_intervals(make_run):
    run = make_run([("deep", 109, (38, 91))])
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    row = {
        name: run["blocks"][name].values[0]
        for name in run["blocks"].data_vars
        if run["blocks"][name].dims == ("block",)
    }
    assert verdict.tone == "found"
    assert verdict.sentences == (
        f"A block of {row['layer_count']} of 15 block outputs, {row['first_layer']} to {row['last_layer']} "
        f"(score {row['score']:.2f}): mean CKA {row['similarity']:.2f}, {row['contrast']:.2f} above that with the "
        f"other layers; the first principal component carries {100 * row['pc_support']:.0f} % of the variance inside "
        f"against {100 * row['pc_support_outside']:.0f} % outside; removing it dissolves the block: without it, the "
        f"layers stand out by {row['contrast_without_pc1']:.2f}.",
    )
    assert verdict.certainty[0].startswith(f"95 % intervals: score {row['score_low']:.2f} to {row['score_high']:.2f}")
    assert verdict.certainty[0].endswith(
        f", the component's share {row['pc_support_low']:.2f} to {row['pc_support_high']:.2f}."
    )


def test_marks_cover_the_layers_from_first_to_last(make_run):
    run = make_run([("deep", 109, (38, 91))])
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    (mark,) = verdict.marks
    assert mark.start == run["blocks"]["first_depth"].item()
    assert mark.stop == run["blocks"]["last_depth"].item() + 1
    assert mark.is_block


def test_the_confidence_is_the_one_that_was_asked_for(make_run):
    run = Run("blocks", "r1", make_run([("deep", 109, (38, 91))]), {"parameters": {"confidence": 0.9}})
    assert read_verdicts(run)[0].certainty[0].startswith("90 % intervals: score")


def test_the_confidence_that_a_result_states_goes_first(make_run):
    run = make_run([("deep", 109, (38, 91))])
    run["blocks"].attrs["confidence"] = 0.8
    (verdict,) = read_verdicts(Run("blocks", "r1", run, {"parameters": {"confidence": 0.9}}))
    assert verdict.certainty[0].startswith("80 % intervals: score")


def test_too_few_batches_are_said_to_give_no_interval(verdicts):
    (verdict,) = verdicts([("deep", 109, (38, 91))], intervals=False)
    assert verdict.certainty[0] == "Too few batches for an interval."


def test_no_block_names_the_longest_similar_interval(make_run):
    run = make_run([("flat", 51, None)])
    chosen = np.flatnonzero(run["pairwise"]["layer_kind_a"].values == "block")
    similarity = run["pairwise"]["similarity"].values
    similarity[np.ix_(chosen[2:5], chosen[2:5])] = 0.99
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    names = run["pairwise"]["name_a"].values[chosen]
    assert verdict.tone == "none"
    assert verdict.sentences == (
        "No block among 7 block outputs: no interval of 4 or more is mutually similar; "
        f"the longest similar interval has 3, {names[2]} to {names[4]}.",
    )


def test_no_block_without_any_similar_neighbours_says_so(verdicts):
    (verdict,) = verdicts([("flat", 51, None)])
    assert verdict.sentences[0].endswith("; not even two neighbours reach a CKA of 0.90.")


def test_no_more_is_claimed_where_the_evaluated_layers_are_not_known(make_run):
    run = make_run([("flat", 51, None)])
    run["blocks"]["evaluated_layers"][:] = 9
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    assert verdict.sentences[0].endswith("is mutually similar (mean CKA of 0.90 is asked for).")


def test_too_few_layers_are_counted(verdicts):
    (verdict,) = verdicts([("small", 8, None)])
    assert verdict.sentences == ("Too few layers to look for a block: 1 block output, at least 4 are needed.",)
    assert verdict.tone == "none"


@pytest.mark.parametrize(
    ("supported", "dissolved", "words"),
    [
        (False, False, " % outside, less than 1.5 times that, and without it they still stand out by 0.21."),
        (True, False, " % outside; but without it they still stand out by 0.21."),
        (
            False,
            True,
            " % outside, less than 1.5 times that, though removing it dissolves what sets them apart: without it, "
            "the layers stand out by 0.21.",
        ),
    ],
)
def test_similar_layers_that_are_no_block_say_which_sign_is_missing(make_run, supported, dissolved, words):
    run = make_run([("deep", 109, (38, 91))])
    run["blocks"]["supported"][:] = supported
    run["blocks"]["dissolved"][:] = dissolved
    run["blocks"]["is_block"][:] = False
    run["blocks"]["contrast_without_pc1"][:] = 0.21
    run["blocks"]["removal_effect"][:] = 0.0
    run["blocks"]["verdict"] = ("model", ["similar layers, not a block"])
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    assert verdict.tone == "partial"
    assert "are similar but not a block: mean CKA" in verdict.sentences[0]
    assert verdict.sentences[0].endswith(words)


def test_where_nothing_is_left_without_the_component_its_effect_is_said_to_be_unknown(make_run):
    run = make_run([("deep", 109, (38, 91))])
    for name, value in (("dissolved", False), ("is_block", False), ("contrast_without_pc1", np.nan)):
        run["blocks"][name][:] = value
    run["blocks"]["verdict"] = ("model", ["similar layers, not a block"])
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    assert "are similar but not known to be a block: mean CKA" in verdict.sentences[0]
    assert verdict.sentences[0].endswith(
        "; whether removing it dissolves the similarity is unknown, as nothing is left of some layers without it."
    )
    run["blocks"]["supported"][:] = False
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    assert "are similar but not a block: mean CKA" in verdict.sentences[0]


def without_contrast_left(run):
    """Return a run as of version 1.0 of its kind, which judged by the similarity inside alone."""
    names = [name for name in run["blocks"].data_vars if "without_pc1" in name]
    return {**run, "blocks": run["blocks"].drop_vars(names).assign_attrs(kind_version="1.0")}


@pytest.mark.parametrize(
    ("is_block", "supported", "dissolved", "effect", "words"),
    [
        (True, True, True, 0.3, "; removing it dissolves the block."),
        (False, True, False, 0.0, "; but removing it leaves the layers similar."),
        (False, False, True, 0.3, ", though removing it dissolves the similarity."),
        (False, True, False, np.nan, "is unknown, as nothing is left of some layers without it."),
    ],
)
def test_results_of_an_earlier_version_are_told_by_what_they_judged(
    make_run, is_block, supported, dissolved, effect, words
):
    run = without_contrast_left(make_run([("deep", 109, (38, 91))]))
    for name, value in (
        ("is_block", is_block), ("supported", supported), ("dissolved", dissolved), ("removal_effect", effect),
    ):  # fmt: skip
        run["blocks"][name][:] = value
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    assert verdict.sentences[0].endswith(words)


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        (0.0, " by 0.21."),
        (-0.1, " by 0.21."),
        (np.nan, " by 0.21."),
        (0.5, " by 0.21, though only {half} in a row stay similar."),
        (1.0, " by 0.21, though no row of them stays similar."),
    ],
)
def test_layers_that_stand_out_without_the_component_and_are_fewer_are_counted(make_run, effect, words):
    run = make_run([("deep", 109, (38, 91))])
    blocks = run["blocks"]
    blocks["dissolved"][:] = blocks["is_block"][:] = False
    blocks["contrast_without_pc1"][:] = 0.21
    blocks["removal_effect"][:] = effect * blocks["score"].values
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    half = round(int(blocks["layer_count"].item()) / 2)
    assert verdict.sentences[0].endswith(f"without it they still stand out{words.format(half=half)}")


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (0.004, "; removing it dissolves the block: without it, the layers stand out no more."),
        (-0.2, "; removing it dissolves the block: without it, the layers stand out no more."),
        (0.006, "; removing it dissolves the block: without it, the layers stand out by 0.01."),
        # Of all layers outside nothing is left: the number is not known, the verdict is.
        (np.nan, "; removing it dissolves the block."),
    ],
)
def test_what_is_left_of_a_block_is_told_where_there_is_something(make_run, left, words):
    run = make_run([("deep", 109, (38, 91))])
    run["blocks"]["contrast_without_pc1"][:] = left
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    assert verdict.sentences[0].endswith(words)
    [drawing] = draw_blocks(run["blocks"], Run("blocks", "r1", run))
    assert drawing.table.rows[0][-1] is True


@pytest.mark.parametrize(
    ("contrast", "words"),
    [
        (np.nan, "; but with nothing outside to stand out from, they cannot be told from a network of similar layers."),
        (-0.01, "; but they do not stand out from the other layers."),
    ],
)
def test_layers_that_stand_out_from_nothing_are_not_called_a_block(make_run, contrast, words):
    run = make_run([("deep", 109, (38, 91))])
    for name, value in (("contrast", contrast), ("contrast_without_pc1", np.nan), ("is_block", False)):
        run["blocks"][name][:] = value
    run["blocks"]["dissolved"][:] = False
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    assert "are similar but not a block: mean CKA" in verdict.sentences[0]
    assert verdict.sentences[0].endswith(words)


@pytest.mark.parametrize(("evaluated", "words"), [(7, "no layer"), (15, "no comparable layer")])
@pytest.mark.parametrize("supported", [True, False])
def test_no_layer_lies_outside_only_where_the_interval_has_all_that_were_searched(
    make_run, evaluated, words, supported
):
    run = make_run([("deep", 109, (38, 91))])
    run["blocks"]["pc_support_outside"][:] = np.nan
    run["blocks"]["contrast"][:] = np.nan
    run["blocks"]["evaluated_layers"][:] = evaluated
    run["blocks"]["supported"][:] = run["blocks"]["is_block"][:] = supported
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    asked = f", and {words} lies" if supported else f", less than the 50 % asked for where {words} lies"
    assert f"of the variance inside{asked} outside" in verdict.sentences[0]
    assert "above that" not in verdict.sentences[0]


def test_layers_that_are_left_out_are_named_with_their_own_reason(make_run):
    run = make_run([("deep", 51, None)], degenerate=[1, 4, 6, 7])
    run["per_layer"]["non_finite_count"][[3, 6, 7]] = [12, 2000, 1]
    (verdict,) = read_verdicts(Run("blocks", "r1", run))
    names = run["per_layer"]["name"].values
    assert verdict.notes == (
        "2 layers tell no samples apart (constant, or all samples equally far from one another) and are left out: "
        "norm, stage1.0.norm1.",
        f"2 layers hold values that are not finite and are left out: {names[6]} (2,000), {names[7]} (1).",
        "1 layer holds values that are not finite: stage1.0.conv1 (12).",
    )


def test_one_layer_is_told_in_the_singular_and_long_lists_are_cut(make_run):
    (verdict,) = read_verdicts(Run("blocks", "r1", make_run([("deep", 51, None)], degenerate=[1])))
    assert verdict.notes[0].startswith("1 layer tells no samples apart (constant")
    assert verdict.notes[0].endswith("and is left out: norm.")
    (verdict,) = read_verdicts(Run("blocks", "r1", make_run([("deep", 51, None)], degenerate=range(20))))
    assert verdict.notes[0].endswith(" and 12 more.")


def test_a_run_without_blocks_has_no_verdict(make_run):
    leaves = {"pairwise": make_run([("deep", 20, None)])["pairwise"]}
    assert read_verdicts(Run("cka", "r1", leaves)) == []


def test_the_table_gives_the_interval_of_the_share_inside(make_run):
    run = make_run([("deep", 109, (38, 91))])
    (drawing,) = draw_blocks(run["blocks"], Run("blocks", "r1", run))
    one = {name: run["blocks"][name].values[0] for name in ("pc_support", "pc_support_low", "pc_support_high")}
    shown = dict(zip(drawing.table.columns, drawing.table.rows[0], strict=True))
    assert shown["PC1 share inside"] == (
        f"{one['pc_support']:.2f}\n{one['pc_support_low']:.2f} to {one['pc_support_high']:.2f}"
    )
    assert shown["PC1 share outside"] == f"{run['blocks']['pc_support_outside'].values[0]:.2f}"


def test_a_map_without_components_that_were_not_found_says_so(make_run):
    leaves = make_run([("deep", 20, None), ("flat", 12, None)])
    flags = np.zeros(32, dtype=bool)
    flags[[3, 21, 22]] = True
    layers = leaves["per_layer"].assign(unconverged=("layer", flags)).assign_attrs(passes=12)
    run = Run("components", "r1", {"pairwise": leaves["pairwise"], "per_layer": layers})
    names = layers["name"].values[flags]
    deep, flat = (drawing.caption for drawing in draw_pairwise(leaves["pairwise"], run)[:2])
    start = "After 12 passes the first principal component of"
    assert f"{start} 1 layer had not converged: {names[0]}. There the map without it is without a direction" in deep
    assert f"{start} 2 layers had not converged: {names[1]}, {names[2]}. There the map" in flat
    plain = draw_pairwise(leaves["pairwise"], Run("blocks", "r1", leaves))
    assert "converged" not in plain[0].caption
    many = layers.assign(unconverged=("layer", np.ones(32, dtype=bool))).assign_attrs(passes=0)
    assert " The first principal component of 20 layers had" in unconverged_layers(Run("c", "r", {"p": many}), "deep")
    assert " and 12 more. There" in unconverged_layers(Run("c", "r", {"p": many}), "deep")


def test_similarity_is_the_large_map_in_whatever_order_a_store_lists_the_variables(make_run):
    leaves = make_run([("deep", 20, None)])
    listed = leaves["pairwise"][sorted(leaves["pairwise"].data_vars)]
    assert next(iter(listed.data_vars)) == "pc_alignment"
    (drawing,) = draw_pairwise(listed, Run("blocks", "r1", {"pairwise": listed, "blocks": leaves["blocks"]}))
    shown = [tag for plot in drawing.plots for tag in plot.tags if tag.get("role") in ("main", "side")]
    assert [(tag["role"], tag["title"]) for tag in shown] == [
        ("main", "CKA"),
        ("side", "CKA without the first principal component"),
        ("side", "Alignment of first principal components"),
    ]
