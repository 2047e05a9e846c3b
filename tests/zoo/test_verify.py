import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from outcrop_zoo.cards import AccuracyRecord, Card
from outcrop_zoo.catalogue import Entry
from outcrop_zoo.verify import verify


@pytest.fixture
def entry(built: tuple[Card, Path], tmp_path: Path) -> Callable[..., Entry]:
    """Return a copy of the tiny model whose card says something else."""
    folder = Path(shutil.copytree(built[1], tmp_path / "zoo"))

    def make(**changes: object) -> Entry:
        content = (folder / "tiny.onnx").read_bytes()
        honest = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        return Entry(built[0].model_copy(update={**honest, **changes}), folder / "tiny.json")

    return make


def _tested(card: Card, **changes: object) -> AccuracyRecord:
    assert card.test is not None
    return card.test.model_copy(update=changes)


def _rewrite(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def test_a_model_that_is_what_its_card_says_is_verified(entry: Callable[..., Entry], built: tuple[Card, Path]) -> None:
    result = verify(entry())
    assert result.outcome == "verified"
    assert built[0].test is not None
    assert result.accuracy == pytest.approx(built[0].test.accuracy, abs=1e-3)
    assert result.detail == f"accuracy {100 * result.accuracy:.2f} % on 3000 images of zoo:patches"


@pytest.mark.parametrize(("difference", "outcome"), [(0.004, "verified"), (0.007, "failed")])
def test_half_a_point_of_accuracy_is_allowed(
    difference: float, outcome: str, entry: Callable[..., Entry], built: tuple[Card, Path]
) -> None:
    test = _tested(built[0])
    result = verify(entry(test=test.model_copy(update={"accuracy": test.accuracy + difference})))
    assert result.outcome == outcome
    assert (f"the card says {100 * (test.accuracy + difference):.2f} %" in result.detail) == (outcome == "failed")


def test_a_changed_file_fails(entry: Callable[..., Entry]) -> None:
    result = verify(entry(sha256="0" * 64))
    assert (result.outcome, result.accuracy) == ("failed", None)
    assert f"expected {'0' * 64}" in result.detail


def test_a_model_whose_data_are_not_at_hand_is_skipped(entry: Callable[..., Entry], built: tuple[Card, Path]) -> None:
    result = verify(entry(test=_tested(built[0], data="zoo:mosaics")))
    assert result.outcome == "skipped"
    assert "its test data is not at hand: The zoo has no data 'mosaics'" in result.detail


def test_a_model_without_a_stated_accuracy_is_verified_by_all_the_rest(entry: Callable[..., Entry]) -> None:
    result = verify(entry(test=None))
    assert (result.outcome, result.detail) == ("verified", "the file is sound and runs; the card states no accuracy")


def test_a_card_that_says_another_opset_fails(entry: Callable[..., Entry]) -> None:
    result = verify(entry(opset=17))
    assert result.outcome == "failed"
    assert "tiny.onnx is written in opset 20; its card says 17" in result.detail


def test_other_test_data_than_the_cards_fail(entry: Callable[..., Entry], built: tuple[Card, Path]) -> None:
    result = verify(entry(test=_tested(built[0], images=2999)))
    assert result.outcome == "failed"
    assert "zoo:patches holds 3000 samples" in result.detail
    assert "the card was tested on 2999" in result.detail


def test_a_card_that_says_another_input_fails(entry: Callable[..., Entry], built: tuple[Card, Path]) -> None:
    other = built[0].input.model_copy(update={"shape": (3, 64, 64)})
    result = verify(entry(input=other))
    assert result.outcome == "failed"
    assert "has input and classes ('image', (3, 32, 32)" in result.detail


def test_a_graph_that_is_not_valid_fails(entry: Callable[..., Entry]) -> None:
    def lose(model: onnx.ModelProto) -> None:
        model.graph.node[-1].input[0] = "nowhere"

    _rewrite(entry().model_path, lose)
    result = verify(entry())
    assert result.outcome == "failed"
    assert "tiny.onnx is not a valid ONNX graph" in result.detail


def test_a_file_that_is_no_onnx_fails(entry: Callable[..., Entry]) -> None:
    entry().model_path.write_bytes(b"half a download")
    result = verify(entry())
    assert result.outcome == "failed"
    assert "tiny.onnx is not" in result.detail


def test_a_network_that_returns_no_numbers_fails(entry: Callable[..., Entry]) -> None:
    def poison(model: onnx.ModelProto) -> None:
        bias = next(value for value in model.graph.initializer if value.name == "classifier.bias")
        bias.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))

    _rewrite(entry().model_path, poison)
    result = verify(entry())
    assert result.outcome == "failed"
    assert "not finite on an input of zeros" in result.detail
