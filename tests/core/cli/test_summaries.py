"""What the command line says of a result."""

import json

import pytest
import xarray as xr

from outcrop.cli.summaries import show_result


@pytest.fixture
def result() -> xr.DataTree:
    """Return a result with one block, by the contrast that it loses without the component."""
    blocks = xr.Dataset(
        {
            "verdict": ("model", ["block"]),
            "evaluated_layers": ("model", [9]),
            "evaluated_kind": ("model", ["block"]),
            "block_model": ("block", ["net"]),
            "first_layer": ("block", ["layer1"]),
            "last_layer": ("block", ["layer4"]),
            "layer_count": ("block", [4]),
            "is_block": ("block", [True]),
            **{
                name: ("block", [value])
                for name, value in (
                    ("score", 0.44), ("similarity", 0.95), ("contrast", 0.61), ("contrast_without_pc1", 0.17),
                    ("pc_support", 0.7), ("pc_support_outside", 0.2), ("removal_effect", 0.44),
                )
            },
        },
        {"model": ["net"]},
        {"kind": "blocks"},
    )  # fmt: skip
    tree = xr.DataTree.from_dict({"blocks": blocks})
    record = {"analysis": "blocks", "models": [{"name": "net"}], "data": {"samples": 64, "name": "photos"}}
    tree.attrs["provenance"] = json.dumps(record)
    return tree


def test_blocks_are_shown_with_the_contrast_that_is_left_without_the_component(result, capsys):
    show_result(result)
    headings, values = capsys.readouterr().out.strip().splitlines()[-2:]
    assert "contrast  without PC1  PC1 inside  PC1 outside" in headings
    assert values.index("0.17") > values.index("0.61")
    assert "removal" not in headings


def test_results_that_lack_that_contrast_are_shown_without_it(result, capsys):
    result["blocks"] = result["blocks"].to_dataset().drop_vars("contrast_without_pc1")
    show_result(result)
    out = capsys.readouterr().out
    assert "without PC1" not in out
    assert "0.61" in out


def test_what_a_leaf_says_in_words_is_shown_by_model_and_by_block(result, capsys):
    leaf = xr.Dataset(
        {
            "verdict": ("model", ["block", "no block"]),
            "evidence": ("model", ["9 layers", "none is similar"]),
        },
        {"model": ["net", "other"]},
        {"kind": "dominance_reference"},
    )
    removal = xr.Dataset(
        {"verdict": ("block", ["dissolved by 10 %"]), "block_model": ("block", ["net"])}, attrs={"kind": "removal"}
    )
    result["references"], result["removal"] = leaf, removal
    show_result(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5:-2] == [
        "references: verdict, evidence (2 model)",
        "  net: block; 9 layers",
        "  other: no block; none is similar",
    ]
    assert lines[-1] == "  net: dissolved by 10 %"
