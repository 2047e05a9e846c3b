"""Sequences of tokens for networks of text: one token again and again, two in turn, real ones in another order."""

import numpy as np

from outcrop.stimuli import Stimulus, StimulusFamily, StimulusMaterial

TOKENS_SHOWN = 32
PAIRS = 8


def constant(material: StimulusMaterial) -> list[Stimulus]:
    """Return sequences of a single token: the most frequent ones of the data, and rare ones."""
    words = material.vocabulary
    chosen = dict.fromkeys([*words[: TOKENS_SHOWN // 2], *words[::-1][: TOKENS_SHOWN // 2]])
    return [Stimulus(f"token {token} throughout", np.full(material.shape, token, dtype=np.int64)) for token in chosen]


def repeated(material: StimulusMaterial) -> list[Stimulus]:
    """Return sequences of two tokens in turn, drawn from the data's."""
    rng = material.rng("repeated")
    made = {}
    for _ in range(PAIRS if len(material.vocabulary) > 1 else 0):
        first, second = map(int, rng.choice(material.vocabulary, 2, replace=False))
        sequence = np.where(np.arange(material.shape[0]) % 2 == 0, first, second)
        made[first, second] = Stimulus(f"tokens {first} and {second} in turn", sequence.astype(np.int64))
    return list(made.values())


def random(material: StimulusMaterial) -> list[Stimulus]:
    """Return sequences of tokens drawn from the data's, all alike."""
    rng = material.rng("random")
    return [
        Stimulus(f"random tokens {number}", rng.choice(material.vocabulary, material.shape).astype(np.int64))
        for number in range(1, PAIRS + 1)
    ]


def of_dominant(material: StimulusMaterial) -> list[Stimulus]:
    """Return single tokens of the most dominant sequence, each throughout: its first, its last, its commonest.

    What is no token of the data, as padding is none, is passed over.
    """
    sequence = material.dominant[0] if material.dominant else np.empty(0, dtype=np.int64)
    sequence = sequence[np.isin(sequence, material.vocabulary)]
    if not len(sequence):
        return []
    values, counts = np.unique(sequence, return_counts=True)
    chosen = {"first": sequence[0], "last": sequence[-1], "commonest": values[counts.argmax()]}
    return [
        Stimulus(f"{name} token of dominant sequence 1 throughout", np.full(material.shape, token, dtype=np.int64))
        for name, token in chosen.items()
    ]


def shuffled(material: StimulusMaterial) -> list[Stimulus]:
    """Return dominant sequences as they are, and their tokens in another order."""
    rng = material.rng("shuffled")
    made = []
    for rank, sequence in enumerate(material.dominant, start=1):
        made += [
            Stimulus(f"dominant sequence {rank}", np.asarray(sequence, dtype=np.int64)),
            Stimulus(f"shuffled dominant sequence {rank}", rng.permutation(sequence).astype(np.int64)),
        ]
    return made


TOKENS = (
    StimulusFamily("constant_token", "one token throughout", takes="tokens", make=constant),
    StimulusFamily("repeated_tokens", "two tokens in turn", takes="tokens", make=repeated),
    StimulusFamily("random_tokens", "tokens drawn from the data's", takes="tokens", make=random),
    StimulusFamily(
        "own_token", "one token of a dominant sequence throughout", takes="tokens", make=of_dominant, per_model=True
    ),
    StimulusFamily(
        "shuffled_tokens", "dominant sequences and their tokens in another order", takes="tokens", make=shuffled,
        per_model=True, keeps_content=True,
    ),
)  # fmt: skip
