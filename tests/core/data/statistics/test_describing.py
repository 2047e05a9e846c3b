import numpy as np
from PIL import Image

import outcrop
from outcrop.data import ArrayData, ImageArray
from outcrop.data.statistics import ARRAY_STATISTICS, PICTURE_STATISTICS, describe
from outcrop.progress import silent
from outcrop.testing import IndexData


def test_each_kind_of_data_is_described_by_what_suits_it() -> None:
    pictures = ImageArray(np.random.default_rng(0).integers(0, 255, (5, 40, 40, 3)).astype(np.uint8))
    found = describe(pictures, thumbnails=True, progress=silent)
    assert found.statistics == PICTURE_STATISTICS
    assert found.values.shape == (len(PICTURE_STATISTICS), 5)
    assert found.thumbnails is not None
    assert found.thumbnails.shape == (5, 48, 48, 3)
    floats = ArrayData(np.random.default_rng(0).random((4, 3, 200, 200)).astype(np.float32))
    found = describe(floats, thumbnails=True, progress=silent)
    assert found.statistics == ARRAY_STATISTICS
    assert found.thumbnails is not None
    assert describe(floats, thumbnails=False, progress=silent).thumbnails is None
    nothing = describe(IndexData(3), thumbnails=True, progress=silent)
    assert nothing.statistics == ()
    assert nothing.thumbnails is None
    tokens = ArrayData({"ids": np.ones((3, 7), dtype=np.int64)})
    assert describe(tokens, thumbnails=True, progress=silent).statistics == ()


def test_pictures_of_different_sizes_compare(tmp_path) -> None:  # type: ignore[no-untyped-def] # a path
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 12, 3)).astype(np.uint8))
    small.resize((96, 96), Image.Resampling.NEAREST).save(tmp_path / "a.png")
    small.resize((960, 960), Image.Resampling.NEAREST).save(tmp_path / "b.png")
    found = describe(outcrop.load_data(tmp_path), thumbnails=True, progress=silent)
    # Entropy knows how many levels there are: smoothing makes more of the 144 that the smaller picture has.
    compared = [row for row, statistic in enumerate(found.statistics) if statistic.name != "entropy"]
    np.testing.assert_allclose(found.values[compared, 0], found.values[compared, 1], atol=0.04)


def test_data_that_one_thread_must_read_is_read_by_one() -> None:
    import threading

    names = set()

    class Single(ArrayData):
        concurrent = False

        def read(self, index):  # type: ignore[no-untyped-def] # the parent's
            names.add(threading.current_thread().name)
            return super().read(index)

    steps = []

    def progress(description, total, *, unit="samples"):  # type: ignore[no-untyped-def] # the protocol's
        import contextlib

        return contextlib.nullcontext(steps.append)

    describe(Single(np.ones((5, 4))), thumbnails=True, progress=progress)
    assert names == {threading.current_thread().name}
    assert sum(steps) == 5
