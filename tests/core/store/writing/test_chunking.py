from hypothesis import example, given
from hypothesis import strategies as st

from outcrop.models.model import Layer
from outcrop.store.writing.chunking import (
    CHUNK_BYTES,
    REMOTE_BUDGET,
    REMOTE_SHARD_BYTES,
    SHARD_BYTES,
    Chunking,
    choose_chunking,
    plan_chunking,
)

SIZES = st.integers(1, 1 << 28)
COUNTS = st.integers(1, 3000)


@given(row_bytes=SIZES, batch=COUNTS, samples=COUNTS)
def test_a_batch_ends_with_a_chunk_and_with_a_shard_or_within_one(row_bytes: int, batch: int, samples: int) -> None:
    found = choose_chunking(row_bytes, batch=batch, samples=samples)
    batch = min(batch, samples)
    assert batch % found.chunk == 0
    assert found.shard % found.chunk == 0
    assert found.shard % batch == 0 or batch % found.shard == 0


@given(row_bytes=SIZES, batch=COUNTS, samples=COUNTS)
def test_no_shard_is_larger_than_asked_for_but_by_its_only_chunk(row_bytes: int, batch: int, samples: int) -> None:
    found = choose_chunking(row_bytes, batch=batch, samples=samples)
    if found.shard > min(batch, samples):
        assert found.shard * row_bytes <= SHARD_BYTES
    whole_batches = -(-samples // min(batch, samples)) * min(batch, samples)
    assert found.shard <= whole_batches


def test_a_layer_of_a_residual_network_gets_chunks_of_a_megabyte_and_shards_of_tens() -> None:
    row = 64 * 56 * 56 * 4
    found = choose_chunking(row, batch=64, samples=50_000)
    assert found.chunk == 1
    assert CHUNK_BYTES / 2 < found.chunk * row < 2 * CHUNK_BYTES
    assert SHARD_BYTES / 2 < found.shard * row < 2 * SHARD_BYTES


def test_a_thousand_logits_of_a_million_samples_are_some_hundred_files() -> None:
    found = choose_chunking(4000, batch=64, samples=1_000_000)
    assert found.chunk == 64
    assert 100 < 1_000_000 / found.shard < 200


def test_a_prime_batch_is_written_sample_by_sample_or_whole() -> None:
    assert choose_chunking(802_816, batch=97, samples=1000).chunk == 1
    assert choose_chunking(2048, batch=97, samples=1000).chunk == 97


def test_one_sample_is_one_chunk_and_one_shard() -> None:
    assert choose_chunking(10, batch=64, samples=1) == Chunking(1, 1)


@given(widths=st.lists(st.integers(1, 1 << 22), min_size=1, max_size=5), batch=COUNTS, samples=COUNTS)
@example(widths=[1, 155_705], batch=862, samples=862)
def test_open_shards_of_a_store_of_whole_objects_fit_its_budget(widths: list[int], batch: int, samples: int) -> None:
    layers = [
        Layer(name=str(width), kind="block", index=index, shape=(width,), dtype="float32", operation="", dims=("x",))
        for index, width in enumerate(dict.fromkeys(widths))
    ]
    found = plan_chunking(layers, samples=samples, batch=batch, local=False)
    batch = min(batch, samples)
    row_bytes = {layer.name: layer.shape[0] * 4 for layer in layers}
    if batch * sum(row_bytes.values()) <= REMOTE_BUDGET:
        [shard] = {one.shard for one in found.values()}
        assert shard % batch == 0
        assert shard * sum(row_bytes.values()) <= REMOTE_BUDGET
        assert shard * max(row_bytes.values()) <= REMOTE_SHARD_BYTES or shard == batch
    else:
        for name, one in found.items():
            assert batch % one.shard == 0
            assert one.shard * row_bytes[name] <= REMOTE_SHARD_BYTES or one.shard == one.chunk
