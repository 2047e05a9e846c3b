from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from outcrop.store.study import Study
from outcrop.testing import ArrayModel, IndexData


@pytest.fixture
def make_model() -> Callable[..., ArrayModel]:
    def made(name: str = "net", *, samples: int = 20, seed: int = 0) -> ArrayModel:
        rng = np.random.default_rng(seed)
        return ArrayModel(
            name,
            {
                "stem/conv": rng.normal(size=(samples, 2, 3, 3)).astype(np.float32),
                "block.0": rng.normal(size=(samples, 4)).astype(np.float32),
                "block.1": rng.normal(size=(samples, 3)).astype(np.float32),
            },
            kinds={"stem/conv": "conv"},
        )

    return made


@pytest.fixture
def model(make_model: Callable[..., ArrayModel]) -> ArrayModel:
    return make_model()


@pytest.fixture
def data() -> IndexData:
    return IndexData(20)


@pytest.fixture
def open_study(tmp_path: Path) -> Callable[..., Study]:
    import outcrop

    def opened(mode: str = "a") -> Study:
        return outcrop.open(tmp_path / "s.zarr", mode=mode)

    return opened
