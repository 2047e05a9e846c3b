from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.capture.random_bits import random_words

WORD = (1 << 64) - 1


def philox(counter: int, key: int) -> list[int]:
    """Philox4x64 with ten rounds, as Salmon et al. 2011 (section 3.3) write it down."""
    c = [(counter >> (64 * part)) & WORD for part in range(4)]
    k = [key & WORD, key >> 64]
    for _ in range(10):
        first, second = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
        c = [(second >> 64) ^ c[1] ^ k[0], second & WORD, (first >> 64) ^ c[3] ^ k[1], first & WORD]
        k = [(k[0] + 0x9E3779B97F4A7C15) & WORD, (k[1] + 0xBB67AE8584CAA73B) & WORD]
    return c


def test_the_reference_of_philox_is_that_of_its_authors() -> None:
    # Known answer of Random123 for a counter and a key of zeros.
    expected = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox(0, 0) == expected


@settings(max_examples=50, deadline=None)
@given(st.integers(0, WORD), st.integers(0, 9), st.integers(0, 20))
def test_words_are_philox_of_seed_and_stream(seed: int, stream: int, count: int) -> None:
    blocks = [word for counter in range(1, 7) for word in philox(counter, (stream << 64) | seed)]
    assert random_words(count, seed=seed, stream=stream).tolist() == blocks[:count]
