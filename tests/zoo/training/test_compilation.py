"""torch.compile in trainings, by the backend that runs operations as they are, which needs no compiler."""

import pytest
import torch
from torch import Tensor, nn

from outcrop.errors import ZooError
from outcrop_zoo.architectures import Architecture, build_architecture
from outcrop_zoo.interventions.specs import FrozenPrefixSpec, PrincipalComponentPenaltySpec
from outcrop_zoo.recipes import Recipe
from outcrop_zoo.training import ImageSet, train
from outcrop_zoo.training.compilation import compiled, told
from outcrop_zoo.training.data import load_recipe_data

# What torch warns of while it traces around a hook is its own access to a gradient.
pytestmark = pytest.mark.filterwarnings("default:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture(scope="module")
def images(tiny_recipe: Recipe) -> ImageSet:
    return load_recipe_data(tiny_recipe).train


def _other(name: str) -> nn.Module:
    torch.manual_seed(5)
    return build_architecture(Architecture(depth=8)).eval()


@pytest.mark.parametrize("recalled", [True, False], ids=["frozen and penalised", "shake-shake"])
def test_a_compiled_training_comes_to_the_same_weights(recalled: bool, tiny_recipe: Recipe, images: ImageSet) -> None:
    changes = (
        {"interventions": (FrozenPrefixSpec(model="other", layers=2), PrincipalComponentPenaltySpec(delta=0.01))}
        if recalled
        else {"architecture": Architecture(name="shake_shake", depth=8)}
    )
    recipe = tiny_recipe.model_copy(update={**changes, "batch_size": 20})
    plain = train(recipe, images, device="cpu", load_network=_other)
    run = train(recipe, images, device="cpu", load_network=_other, compiler="eager")
    assert (plain.compiler, run.compiler) == ("", "eager")
    expected = plain.network.state_dict()
    for name, value in run.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)
        if recalled and name.startswith(("conv.", "norm.", "stage1.0.")) and "num_batches" not in name:
            assert torch.equal(value, _other("other").state_dict()[name]), name


def test_an_unknown_backend_is_refused(tiny_recipe: Recipe, images: ImageSet) -> None:
    with pytest.raises(
        ZooError, match=r"cannot be compiled by 'abacus' \(Invalid backend: 'abacus'.*\). Train without"
    ):
        train(tiny_recipe, images, device="cpu", compiler="abacus")


def test_a_compiler_that_fails_is_told_in_one_line() -> None:
    def broken(graph: object, inputs: object) -> None:
        raise RuntimeError("no C++ compiler\nand much more")

    function = torch.compile(lambda x: x + 1, backend=broken)
    with (
        pytest.raises(
            ZooError, match=r"cannot be compiled by 'broken' \(.*no C\+\+ compiler\). Train .*'eager' none"
        ) as told_,
        told("broken"),
    ):
        function(torch.ones(1))
    assert "\n" not in str(told_.value)


def test_other_errors_and_uncompiled_networks_are_left_alone() -> None:
    network = nn.Identity()
    assert compiled(network, "") is network
    for compiler in ("", "eager"):
        with pytest.raises(ValueError, match="mine"), told(compiler):
            raise ValueError("mine")
    value: Tensor = compiled(network, "eager")(torch.ones(2))
    assert torch.equal(value, torch.ones(2))
