import numpy as np
import pytest
import torch

from outcrop.models.model import Layer
from outcrop.numerics import GramAccumulator
from outcrop.numerics.stream.repeats import Repeats

SAMPLES = np.arange(8)


def seen(values):
    repeats = Repeats()
    repeats.remember("m", SAMPLES, values, 7)
    return repeats


def test_the_same_memory_is_recognised_under_another_shape():
    values = torch.randn(8, 3, 4)
    assert seen(values).find("m", values.detach()) == 7
    assert seen(values).find("m", values.flatten(1)) == 7
    images = torch.randn(4, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    assert seen(images).find("m", images.detach()) == 7


@pytest.mark.parametrize("size", [3, 100_000])
def test_what_was_written_to_since_is_not_the_same(size):
    values = torch.randn(8, size)
    repeats = seen(values.detach())
    assert repeats.find("m", values.relu_().detach()) is None


def test_a_numpy_buffer_that_is_used_again_is_not_the_same():
    buffer = np.ones((8, 5))
    repeats = seen(torch.from_numpy(buffer))
    buffer[:] = 2
    assert repeats.find("m", torch.from_numpy(buffer)) is None
    # Not even through a tensor of the same storage, whose version does not tell.
    tensor = torch.from_numpy(buffer)
    repeats = seen(tensor)
    buffer[:] = 3
    assert repeats.find("m", tensor) is None


def test_slices_of_equally_many_values_and_the_same_strides_are_not_the_same():
    # Constant but in one place, so that no probe of the values tells them apart.
    whole = torch.ones(8, 6, 7)
    whole[:, 0, 5] = 3
    first, second = whole[:, :2, :6], whole[:, :3, :4]
    assert (first.stride(), first.numel()) == (second.stride(), second.numel())
    assert seen(first).find("m", second) is None
    assert seen(first).find("m", whole[:, :2, :6]) == 7


def test_an_address_that_was_freed_and_given_out_again_is_not_the_same():
    repeats = Repeats()
    for row in range(20):
        values = torch.full((64, 1000), 1.0)
        assert repeats.find("m", values) is None
        repeats.remember("m", SAMPLES, values, row)
        del values


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x[:, 1:],
        lambda x: x[:4],
        lambda x: x.T,
        lambda x: x.view(torch.int32),
        lambda x: x.view(4, 16),
        lambda x: x.flip(1),
        lambda x: x.clone(),
    ],
    ids=["part", "fewer samples", "transposed", "other type", "other samples", "other order", "copy"],
)
def test_another_view_of_the_memory_and_a_copy_are_not_the_same(other):
    values = torch.randn(8, 8)
    assert seen(values).find("m", other(values)) is None


def test_each_model_repeats_its_own_layers_only_until_their_samples_are_forgotten():
    values, others = torch.randn(8, 5), torch.randn(8, 5)
    repeats = seen(values)
    repeats.remember("ahead", SAMPLES + 8, others, 9)
    assert repeats.find("ahead", values) is None
    repeats.forget(SAMPLES)
    assert repeats.find("m", values) is None
    assert repeats.find("ahead", others) == 9


def test_values_that_are_not_numbers_or_not_there_are_never_the_same():
    assert seen(torch.full((8, 5), torch.nan)).find("m", torch.full((8, 5), torch.nan)) is None
    empty = torch.zeros(8, 0)
    assert seen(empty).find("m", empty) is None


def test_tensors_of_inference_mode_have_no_version_and_are_never_the_same():
    with torch.inference_mode():
        values = torch.randn(8, 5)
    assert seen(values).find("m", values) is None


def layer(name, index):
    return Layer(name, "input" if name == "input" else "block", index, (1,), "float32", "x", ("feature",))


@pytest.mark.parametrize("options", [{}, {"kernel": "rbf"}, {"kernel": "cosine"}, {"remove_input": True}], ids=str)
def test_repeated_layers_give_what_copies_of_them_give(options):
    generator = torch.Generator().manual_seed(0)
    together, copied = (GramAccumulator(group_size=40, **options) for _ in range(2))
    weights = torch.randn(6, 9, generator=generator)
    for start in range(0, 120, 40):
        index = np.arange(start, start + 40)
        image = torch.randn(40, 6, generator=generator)
        for model in ("a", "b"):
            hidden = torch.relu(image @ weights) + torch.randn(40, 9, generator=generator)
            values = {"input": image.clone(), "hidden": hidden, "identity": hidden, "flat": hidden.view(40, 3, 3)}
            for position, (name, tensor) in enumerate(values.items()):
                together.update(model, layer(name, position), index, tensor)
                # Not equal to the other model's, so that it is multiplied again.
                copied.update(
                    model, layer(name, position), index, tensor.double() if name == "input" else tensor.clone()
                )
        together.end_batch()
        copied.end_batch()
    one, other = together.finish(), copied.finish()
    for name in ("similarity", "similarity_without_pc1", "pc_share", "pc_alignment", "standard_error", "groups"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=2e-5, rtol=1e-4, err_msg=name)
    if not options:
        assert one.similarity[0, 4] == pytest.approx(1, abs=1e-14)
        assert one.similarity[1, 2] == pytest.approx(1, abs=1e-14)


def test_layers_that_agree_in_some_groups_only_are_compared_in_all():
    generator = torch.Generator().manual_seed(0)
    together, copied = (GramAccumulator(group_size=40) for _ in range(2))
    for start in range(0, 160, 40):
        index = np.arange(start, start + 40)
        first = torch.randn(40, 6, generator=generator)
        second = first if start % 80 else 100 * first + torch.randn(40, 6, generator=generator)
        for accumulator, values in ((together, second), (copied, second.clone())):
            accumulator.update("m", layer("first", 0), index, first)
            accumulator.update("m", layer("second", 1), index, values)
            accumulator.end_batch()
    np.testing.assert_allclose(together.finish().similarity, copied.finish().similarity, atol=1e-12)


def test_layers_that_repeat_others_cost_no_product_and_no_memory():
    accumulator = GramAccumulator(group_size=64)
    values = torch.randn(64, 10)
    for index in range(200):
        accumulator.update("m", layer(f"layer{index}", index), np.arange(64), values)
    accumulator.end_batch()
    assert sum(len(chunk) for chunk in accumulator._packed._chunks) == 32
    assert accumulator.finish().similarity.min() == pytest.approx(1, abs=1e-14)


def test_what_the_next_group_has_given_meanwhile_is_not_forgotten():
    repeats, values, later = Repeats(), torch.randn(8, 3), torch.randn(8, 3)
    repeats.remember("m", SAMPLES, values, 1)

    class Overtaken(dict):
        """Is looked through while the model goes on to its next samples."""

        def _after(self, found):
            yield from tuple(found)
            repeats.remember("m", SAMPLES + 8, later, 2)

        def values(self):
            return self._after(super().values())

        def items(self):
            return self._after(super().items())

    repeats._last = Overtaken(repeats._last)
    repeats.forget(SAMPLES)
    assert repeats.find("m", later) == 2
    assert repeats.find("m", values) is None
