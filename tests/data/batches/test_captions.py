import dataclasses

import numpy as np
import pytest

from mre_jax.data.batches.captions import CaptionFile, CaptionLoader
from mre_jax.errors import DataError
from mre_jax.smartedit.prompt import PromptSizes, PromptWriter
from mre_jax.smartedit.templates import Pair, Templates
from tests.smartedit.tiny_tokenizer import tiny_tokenizer


@pytest.fixture
def captions(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("".join(f"a picture of {number} dogs\n" for number in range(10)))
    return CaptionFile(path)


def make(captions, **settings):
    templates = Templates("Draw.", (Pair("Show [cap].", "Here [img]."), Pair("[cap]", "So [img].")))
    writer = PromptWriter(tiny_tokenizer(), templates, PromptSizes(64, 0))

    def write(texts, keys):
        return writer.captions(texts, [str(key) for key in keys.tolist()], [0] * len(texts))

    def tokenize(texts):
        return np.array([[len(text)] for text in texts], np.int32)

    return CaptionLoader([captions], 4, seed=3, tokenize=tokenize, write=write, **settings)


def test_json_lines_give_their_captions(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"caption": " a cat ", "url": "u"}\n\n{"text": "no"}\n')
    captions = CaptionFile(path)
    assert (len(captions), captions[0].text) == (2, "a cat")
    with pytest.raises(DataError, match=r'line 3 is no JSON object with a "caption"'):
        captions[1]


@pytest.mark.parametrize(
    ("content", "told"), [(None, "is missing"), (b"\n \n", "holds no caption")]
)
def test_a_file_without_captions_is_refused(tmp_path, content, told):
    path = tmp_path / "captions.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=told):
        CaptionFile(path)


def test_what_is_no_text_is_named(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"captions.txt, line 2 is not UTF-8"):
        CaptionFile(path)[1]


def test_an_epoch_reads_every_caption_once(captions):
    loader = dataclasses.replace(make(captions), batch_size=5)
    read = [source[row].text for step in (0, 1) for source, row in loader.find(_where(step))]
    assert sorted(read) == sorted(captions[number].text for number in range(10))


def _where(step):
    return np.arange(5 * step, 5 * step + 5)


def test_hosts_share_the_batches_of_one(captions):
    loader = make(captions)
    whole = loader.batch(2)
    parts = [dataclasses.replace(loader, host=host, hosts=2).batch(2) for host in (0, 1)]
    for name in ("instruction", "key_data", "positions"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, name))
    ids = np.concatenate([part.prompts.input_ids for part in parts])
    np.testing.assert_array_equal(ids, whole.prompts.input_ids)


def test_batches_are_read_ahead_as_they_are_read_at_once(captions):
    loader = make(captions)
    for step, batch in zip((1, 2), loader.batches(1, 3), strict=True):
        np.testing.assert_array_equal(batch.prompts.input_ids, loader.batch(step).prompts.input_ids)
        assert batch.prompts.image_start.max() == 0 and batch.edited is None


def test_templates_are_drawn_anew_in_each_epoch(captions):
    loader = dataclasses.replace(make(captions), batch_size=10)
    drawn = set()
    for step in range(6):
        (row,) = np.flatnonzero([number == 0 for _, number in loader.find(_all(step))])
        drawn.add(int(loader.batch(step).prompts.lengths[row]))
    assert len(drawn) == 2  # the templates are of two lengths


def _all(step):
    return np.arange(10 * step, 10 * step + 10)
