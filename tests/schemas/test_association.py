"""Rules between the variables of ``association``."""

import numpy as np
import pytest
import xarray as xr

from outcrop_schemas import KINDS, SchemaError

ASSOCIATION = KINDS["association"]


def shared(blocks: int = 2, statistics: int = 3) -> xr.Dataset:
    areas = np.tile(np.linspace(0.9, 0.6, statistics), (blocks, 1))
    each = ("block", "statistic")
    low = np.tile(np.linspace(0.01, 0.5, statistics), (blocks, 1))
    names = [f"statistic{row}" for row in range(statistics)]
    text = ("block_model", "first_layer", "last_layer", "reference_layer", "evidence")
    shares = ("auroc", "null", "null_high", "p_value", "standard_error")
    dataset = xr.Dataset(
        {
            **{name: ("block", np.array(["net"] * blocks, object)) for name in text},
            **{f"logistic_{name}": ("block", np.full(blocks, 0.5)) for name in shares},
            **dict.fromkeys(("auroc", "effect", "coefficient", "mean_dominant", "mean_rest"), (each, areas)),
            **{name: (each, low.copy()) for name in ("p_value", "adjusted_p", "familywise_p")},
            "rank": (each, np.tile(np.arange(1, statistics + 1), (blocks, 1))),
            "leading_statistic": ("block", np.array(names[:1] * blocks if names else [""] * blocks, object)),
            "is_block": ("block", np.ones(blocks, bool)),
            "member_count": ("block", np.full(blocks, 5)),
        },
        {
            "statistic": np.array(names, object),
            "statistic_title": ("statistic", np.array(names, object)),
            "statistic_units": ("statistic", np.array([""] * statistics, object)),
        },
        {"sample_count": 50, "permutations": 99, "logistic_permutations": 20, "folds": 5, "significance": 0.05},
    )
    return ASSOCIATION.annotate(dataset)


def test_classes_are_optional_and_no_statistic_need_be_known() -> None:
    ASSOCIATION.validate(shared())
    ASSOCIATION.validate(shared(statistics=0))
    ASSOCIATION.validate(shared(blocks=0))


def test_no_leader_is_valid_and_another_than_the_first_is_not() -> None:
    found = shared()
    found["leading_statistic"][:] = ["", "statistic0"]
    ASSOCIATION.validate(found)
    found["leading_statistic"][:] = ["", "statistic2"]
    with pytest.raises(
        SchemaError, match="leading_statistic: expected 'statistic0' of rank 1, or '', found 'statistic2'"
    ):
        ASSOCIATION.validate(found)


def test_ranks_are_each_taken_once() -> None:
    found = shared()
    found["rank"][1] = [1, 1, 2]
    with pytest.raises(SchemaError, match="data_vars/rank: expected each of 1 to 3 once in a block, found others in 1"):
        ASSOCIATION.validate(found)


def test_ranks_follow_the_distance_from_one_half_and_the_unknown_come_last() -> None:
    found = shared()
    found["auroc"] = (("block", "statistic"), np.array([[0.9, 0.2, np.nan], [0.01, 0.9, 0.8]]))
    ASSOCIATION.validate(found)
    found["auroc"][0] = [0.9, np.nan, 0.2]
    with pytest.raises(
        SchemaError, match="expected 1 for the AUROC farthest from 0.5, and so on, found otherwise in 1 b"
    ):
        ASSOCIATION.validate(found)


@pytest.mark.parametrize("name", ["adjusted_p", "familywise_p"])
def test_adjusting_does_not_lower_a_p_value(name: str) -> None:
    found = shared()
    found[name][0, 1] = 0.001
    with pytest.raises(SchemaError, match=f"data_vars/{name}: expected at least p_value, found less in 1 places"):
        ASSOCIATION.validate(found)
