"""Lines of text as tokens, by a tokenizer of transformers: ``text:FILE?tokenizer=NAME``."""

from pathlib import Path
from typing import Any

import numpy as np

from outcrop.data.arrays import ArrayData
from outcrop.data.content import refuse_empty
from outcrop.errors import DataNotFoundError, DataReadError, MissingDependencyError

MOST_TOKENS = 512


def load_text(reference: str) -> ArrayData:
    """Return the lines of a text file, tokenised: ``input_ids``, ``attention_mask``, each (sample, token).

    A sample is a line that is not blank, its id the line's number from 1. Samples are padded to the longest and cut at
    the tokenizer's own limit, 512 tokens at most.

    Args:
        reference: ``FILE?tokenizer=NAME``, where NAME is a model on the Hugging Face hub or a folder.

    Raises:
        DataNotFoundError: No such file or tokenizer, or no line.
        DataReadError: No tokenizer is named, or the file is no UTF-8 text.
        MissingDependencyError: transformers is not installed.
    """
    file, _, tokenizer_name = reference.partition("?tokenizer=")
    if not tokenizer_name:
        raise DataReadError(f"Data 'text:{reference}' names no tokenizer; say 'text:{file}?tokenizer=NAME'.")
    path = Path(file).expanduser()
    try:
        lines = {
            str(number): line
            for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
            if line.strip()
        }
    except OSError as error:
        raise DataNotFoundError(f"Text file {file!r} cannot be opened: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataReadError(f"Text file {file!r} is not UTF-8: byte {error.start}. Convert it first.") from error
    refuse_empty(len(lines), path.stem)
    tokenizer = _tokenizer(tokenizer_name)
    tokens = tokenizer(
        list(lines.values()),
        padding=True,
        truncation=True,
        max_length=min(MOST_TOKENS, tokenizer.model_max_length),
        return_tensors="np",
    )
    arrays = {key: np.asarray(value, dtype=np.int64) for key, value in tokens.items()}
    return ArrayData(arrays, name=path.stem, source=f"text:{reference}", sample_ids=list(lines))


def _tokenizer(name: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingDependencyError(
            "Text needs the package transformers; install it with 'pip install outcrop[hf]'."
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DataNotFoundError(f"Tokenizer {name!r} cannot be loaded: {reason}.") from error
    if tokenizer.pad_token is None:
        # Generative models have no padding of their own; the attention mask leaves it out anyway.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
