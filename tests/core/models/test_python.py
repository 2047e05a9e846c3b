"""Networks by their Python reference."""

import textwrap

import pytest
import torch

from outcrop.errors import ModelLoadError, ModelNotFoundError
from outcrop.models import load_model

COUNTER = iter(range(1000))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a Python module of a fresh name into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        name = f"user_module_{next(COUNTER)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    return write


def test_a_factory_in_the_current_folder_makes_a_model(module):
    name = module("""
        from torch import nn

        def small():
            return nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    """)
    model = load_model(f"python:{name}:small")
    assert (model.name, model.source) == ("small", f"python:{name}:small")
    assert [layer.name for layer in model.layers] == ["input", "0", "1"]
    assert model.forward({"input": torch.ones(2, 4)}).shape == (2, 3)


def test_a_factory_may_return_a_finished_model_and_the_shape_may_be_stated(module):
    name = module("""
        from torch import nn
        from outcrop.models import TorchModel

        def finished():
            return TorchModel(nn.Linear(2, 2), name="finished")

        class Holder:
            @staticmethod
            def convolution():
                return nn.Conv2d(3, 2, 3)
    """)
    assert load_model(f"python:{name}:finished").name == "finished"
    assert load_model(f"python:{name}:finished", name="other").name == "other"
    assert load_model(f"python:{name}:Holder.convolution?input_shape=3x9x9").layers[-1].shape == (2, 7, 7)


@pytest.mark.parametrize(
    ("text", "reference", "error", "message"),
    [
        ("", "python:{}", ModelNotFoundError, "Not a Python reference: 'user_module_.*write python:package.module:fac"),
        ("", "python:no_such_module_at_all:x", ModelNotFoundError, "no Python module 'no_such_module_at_all'"),
        ("def resnet(): ...", "python:{}:resnt", ModelNotFoundError, "has no 'resnt'. Did you mean 'resnet'"),
        ("import no_such_thing", "python:{}:x", ModelLoadError, "needs 'no_such_thing', which is not installed"),
        ("1 +", "python:{}:x", ModelLoadError, "failed: SyntaxError"),
        ("x = 3", "python:{}:x", ModelLoadError, "is a int; expected a function that returns a network"),
        ("def x(): return 3", "python:{}:x", ModelLoadError, r"x\(\) returned a int; expected a torch.nn.Module"),
        ("def x(): raise KeyError('deep')", "python:{}:x", ModelLoadError, r"x\(\) failed: KeyError: 'deep'"),
    ],
)
def test_a_bad_reference_is_refused_in_one_line(module, text, reference, error, message):
    name = module(text)
    with pytest.raises(error, match=message) as caught:
        load_model(reference.format(name))
    assert "\n" not in str(caught.value)
