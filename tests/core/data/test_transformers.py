import sys

import pytest

from outcrop.data import load_data
from outcrop.errors import DataNotFoundError, DataReadError, MissingDependencyError


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["[UNK]", "[END]", "the", "rocks", "lie", "deep"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", eos_token="[END]", model_max_length=4
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("the rocks\n\nlie deep the rocks lie\nunknown\n")
    return path


def test_lines_become_padded_tokens_cut_at_the_tokenizers_limit(tokenizer, text):
    data = load_data(f"text:{text}?tokenizer={tokenizer}")
    assert (data.name, data.sample_ids, len(data)) == ("lines", ("1", "3", "4"), 3)
    tokens = [data.read(index) for index in range(3)]
    assert [sample["input_ids"].tolist() for sample in tokens] == [[2, 3, 1, 1], [4, 5, 2, 3], [0, 1, 1, 1]]
    assert [sample["attention_mask"].tolist() for sample in tokens] == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_a_tokenizer_must_be_named(text):
    with pytest.raises(
        DataReadError, match=r"'text:.*lines.txt' names no tokenizer; say 'text:.*lines.txt\?tokenizer=NAME'"
    ):
        load_data(f"text:{text}")


def test_files_that_are_missing_empty_or_no_text_are_refused(tokenizer, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"Text file '.*gone.txt' cannot be opened: No such file or directory"):
        load_data(f"text:{tmp_path / 'gone.txt'}?tokenizer={tokenizer}")
    (tmp_path / "blank.txt").write_text("\n  \n")
    with pytest.raises(DataNotFoundError, match=r"Data 'blank' holds no sample"):
        load_data(f"text:{tmp_path / 'blank.txt'}?tokenizer={tokenizer}")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(DataReadError, match=r"latin.txt' is not UTF-8: byte 3\. Convert it first"):
        load_data(f"text:{tmp_path / 'latin.txt'}?tokenizer={tokenizer}")


def test_a_tokenizer_that_is_not_there_is_an_error(text, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataNotFoundError, match=r"Tokenizer '.*empty' cannot be loaded: "):
        load_data(f"text:{text}?tokenizer={tmp_path / 'empty'}")


def test_without_transformers_the_error_tells_what_to_install(text, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        MissingDependencyError, match=r"needs the package transformers; install it with 'pip install outcrop\[hf\]'"
    ):
        load_data(f"text:{text}?tokenizer=any")
