"""A study with two captures, results and data, in any store; and stores that fail when they are told to."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from zarr.abc.store import Store
from zarr.storage import MemoryStore, WrapperStore

import outcrop
from outcrop.store.study import Study
from outcrop.testing import ArrayModel, IndexData

SAMPLES = 20


class Killed(BaseException):
    """Ends a process as a signal would: nothing catches it."""


class FailingStore(WrapperStore[Store]):
    """Takes so many more changes, and is killed at the next; ``left`` counts them."""

    left = 1 << 60
    killed = Killed

    def _change(self, key: str) -> None:
        if key.endswith("lock"):
            return  # the lease of a writer, which expires when he is gone
        if self.left <= 0:
            raise Killed
        type(self).left = self.left - 1

    async def set(self, key: str, value: Any, *arguments: Any, **keywords: Any) -> None:
        self._change(key)
        await super().set(key, value, *arguments, **keywords)

    async def delete(self, key: str) -> None:
        self._change(key)
        await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        self._change(prefix)
        await super().delete_dir(prefix)


@pytest.fixture
def failing() -> type[FailingStore]:
    """A class of stores that fail together."""

    class Failing(FailingStore):
        pass

    return Failing


@pytest.fixture
def make_model() -> Callable[..., ArrayModel]:
    def made(name: str = "net", *, seed: int = 0, layers: int = 5) -> ArrayModel:
        rng = np.random.default_rng(seed)
        arrays = {"stem/Conv": rng.normal(size=(SAMPLES, 2, 3, 3)).astype(np.float32)}
        arrays |= {f"block.{i}": rng.normal(size=(SAMPLES, 4)).astype(np.float32) for i in range(layers)}
        return ArrayModel(name, arrays, kinds={"stem/Conv": "conv"})

    return made


@pytest.fixture
def data() -> IndexData:
    return IndexData(SAMPLES)


@pytest.fixture
def fill(make_model: Callable[..., ArrayModel], data: IndexData) -> Callable[..., Study]:
    """Fills a study with two captures and, of the first, a result."""

    def filled(location: Any, *, models: tuple[str, ...] = ("net", "other"), layers: str = "all") -> Study:
        study = outcrop.open(location, mode="a")
        for seed, name in enumerate(models):
            study.capture(make_model(name, seed=seed), data, layers=layers, batch_size=8)
        study.run("blocks", models=[models[0]], parameters={"bootstrap": 0})
        return study

    return filled


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    """A folder, and a store that is none."""
    return tmp_path / "s.zarr" if request.param == "folder" else MemoryStore()
