import importlib
import pkgutil
import subprocess
import sys

import pytest

import outcrop.numerics


def test_every_public_name_exists_and_none_is_also_a_module():
    modules = {module.name for module in pkgutil.iter_modules(outcrop.numerics.__path__)}
    assert not modules & set(outcrop.numerics.__all__)  # importing the module would hide the name
    for name in outcrop.numerics.__all__:
        assert getattr(importlib.import_module("outcrop.numerics"), name) is not None
    assert set(dir(outcrop.numerics)) >= set(outcrop.numerics.__all__)


def test_similarity_of_arrays_imports_no_torch():
    code = (
        "import sys, numpy, outcrop.numerics as n; n.cka(numpy.eye(5), numpy.eye(5)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'outcrop.numerics' has no attribute 'ckaa'"):
        _ = outcrop.numerics.ckaa
