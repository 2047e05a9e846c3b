import pytest
import torch
from torch import nn

from outcrop.errors import LayerNotFoundError, ParameterError, ZooError
from outcrop_zoo.architectures import CifarResNet
from outcrop_zoo.interventions import InitialiseFrom, initialise_from


def _network(seed: int, depth: int = 8, *, width: int = 1, classes: int = 10) -> CifarResNet:
    torch.manual_seed(seed)
    network = CifarResNet(depth, width=width, num_classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
    return network


def _copied(network: nn.Module, source: nn.Module) -> set[str]:
    """Names that are equal to the source's, of those that were not before (other seeds, so floats differ)."""
    expected = source.state_dict()
    return {
        name
        for name, value in network.state_dict().items()
        if name in expected and value.shape == expected[name].shape and torch.equal(value, expected[name])
    }


def test_all_but_the_classifier_is_taken_also_from_a_network_of_other_classes() -> None:
    network, source = _network(0), _network(1, classes=7)
    own = network.classifier.weight.clone()
    before = {key: value.clone() for key, value in source.state_dict().items()}
    names = initialise_from(network, source)
    assert set(names) == _copied(network, source) == {n for n in network.state_dict() if not n.startswith("classifier")}
    assert torch.equal(network.classifier.weight, own)
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())


def test_the_first_stage_is_everything_before_the_second() -> None:
    network, source = _network(0), _network(1)
    untouched = {key: value.clone() for key, value in network.state_dict().items()}
    names = initialise_from(network, source, part="first_stage")
    assert set(names) == {n for n in network.state_dict() if n.startswith(("conv.", "norm.", "stage1."))}
    for name, value in network.state_dict().items():
        assert torch.equal(value, (source.state_dict() if name in names else untouched)[name]), name


def test_another_layer_can_be_named_as_the_classifier() -> None:
    network, source = _network(0), _network(1)
    names = initialise_from(network, source, classifier="stage3")
    assert not any(name.startswith("stage3.") for name in names)
    assert "classifier.weight" in names


@pytest.mark.parametrize("lazy", [False, True])
def test_as_an_intervention_it_copies_before_the_training(lazy: bool) -> None:
    network, source = _network(0), _network(1)
    intervention = InitialiseFrom((lambda: source) if lazy else source)
    assert intervention.prepare(network) is network
    assert torch.equal(network.conv.weight, source.conv.weight)


def test_weights_of_another_shape_are_refused_and_nothing_is_copied() -> None:
    network, source = _network(0), _network(1, width=2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(
        ZooError,
        match=r"All layers but the classifier cannot be taken from the CifarResNet: conv.weight is \(32, 3, 3, 3\), "
        r"expected \(16, 3, 3, 3\); .*, and \d+ more\. Take them from a network of the same architecture",
    ):
        initialise_from(network, source)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_shallower_or_deeper_network_is_refused() -> None:
    with pytest.raises(ZooError, match=r"stage1.1.conv1.weight is missing"):
        initialise_from(_network(0, 14), _network(1, 8))
    for part in ("all", "first_stage"):
        with pytest.raises(ZooError, match=r"stage1.1.conv1.weight has no place in the network"):
            initialise_from(_network(0, 8), _network(1, 14), part=part)  # type: ignore[arg-type] # both are parts


def test_parts_that_are_not_there_are_refused() -> None:
    with pytest.raises(
        ParameterError, match="Unknown part 'first_stages': choose all or first_stage. Did you mean 'fir"
    ):
        initialise_from(_network(0), _network(1), part="first_stages")  # type: ignore[arg-type] # the point of the test
    with pytest.raises(LayerNotFoundError, match="CifarResNet has no module 'clasifier'; .*Did you mean 'classifier'"):
        initialise_from(_network(0), _network(1), classifier="clasifier")
    single = nn.Sequential()
    single.add_module("stage1", nn.Linear(2, 2))
    with pytest.raises(ParameterError, match="Sequential has the one stage 'stage1'; use part='all'"):
        initialise_from(single, single, part="first_stage")
