import pytest
import torch

from outcrop.errors import ZooError
from outcrop_zoo.training.device import choose_device, reproducible


def test_cuda_is_chosen_where_there_is_any(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device(None) == expected


def test_a_device_that_is_asked_for_is_taken() -> None:
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(ZooError, match=rf"no device '{device}' to train on \(.*\). Leave it out, or say 'cpu'"):
        choose_device(device)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_global_generator_is_left_as_it_was(device: str) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with reproducible(device):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)
