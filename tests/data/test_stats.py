"""`mre data stats`: numbers and charts that agree with the judge's file."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from mre_jax import cli
from mre_jax.data.records.manifest import load_manifest, write_manifest
from mre_jax.data.stats import StatsSpec, describe, token_counter
from mre_jax.data.stats_charts import write_charts
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.stats import RewardStats
from tests.data.prepared import EXAMPLES, SHARDS, prepare_toy, write_toy
from tests.weights.tiny import write_tokenizer

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def prepared(toy, tmp_path_factory):
    return prepare_toy(toy, tmp_path_factory.mktemp("stats") / "out")


def test_the_counts_are_those_of_the_input(toy, prepared):
    stats = describe(StatsSpec(prepared))
    rewards = json.loads((toy / "RewardEdit.json").read_text())
    scores = np.array([[entry["Score"] for entry in row] for row in rewards.values()])
    assert (stats.examples, stats.judged, stats.captioned) == (EXAMPLES,) * 3
    assert (stats.shards, stats.bytes) == (SHARDS, load_manifest(prepared).bytes)
    assert dict(stats.sizes) == {"32 x 32": EXAMPLES}
    assert dict(stats.formats) == {"PNG": EXAMPLES}
    for column, counts in enumerate(stats.scores.values()):
        assert counts == [int((scores[:, column] == score).sum()) for score in range(6)]
    assert list(stats.below_top.values()) == (scores < 5).sum(0).tolist()
    assert stats.instruction_words.total() == EXAMPLES
    assert stats.truncation is None


def test_the_command_prints_them_and_draws_them(prepared, tmp_path, capsys):
    pytest.importorskip("wordcloud")
    assert cli.main(["data", "stats", str(prepared), "--out", str(tmp_path / "charts")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"toy: {EXAMPLES} examples in {SHARDS} shards, ")
    assert "below 5" in out and "instruction words: median" in out
    stats = json.loads((tmp_path / "charts/stats.json").read_text())
    assert stats["examples"] == EXAMPLES
    for name in ("scores.png", "words.png"):
        with Image.open(tmp_path / "charts" / name) as image:
            colours = {colour for _, colour in image.convert("RGB").getcolors(2**24)}
        assert {(0x31, 0x68, 0x8E), (0x35, 0xB7, 0x79), (0xB5, 0x65, 0x1D)} <= colours


def test_tokens_and_what_the_encoder_does_not_see(prepared, tmp_path):
    write_tokenizer(tmp_path / "tokenizer")
    count = token_counter(tmp_path / "tokenizer")
    assert list(count(["abc", "ab " * 100])) == [5, 202]
    stats = describe(StatsSpec(prepared, tmp_path / "tokenizer"))
    assert stats.instruction_tokens.total() == EXAMPLES
    assert stats.truncation is not None
    assert stats.truncation.texts == EXAMPLES
    assert "77 tokens fit" in str(stats)
    json.dumps(stats.to_dict())


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no vocab\.json in it"):
        token_counter(tmp_path)


def test_a_damaged_set_has_no_statistics(prepared, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "set")
    shard = folder / load_manifest(folder).shards[2].file
    data = bytearray(shard.read_bytes())
    data[500] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"00002-of-00003: record 0 at byte 0"):
        describe(StatsSpec(folder))


def test_sets_without_texts_or_with_long_words_have_a_cloud_too(tmp_path):
    pytest.importorskip("wordcloud")
    stats = RewardStats()
    stats.words["preserving"]["blurred"], stats.words["quality"]["w" * 80] = 1, 1
    pictures = [path.read_bytes() for path in write_charts(tmp_path, stats)]
    with Image.open(tmp_path / "words.png") as image:
        assert image.size == (1260, 300)
    assert [path.read_bytes() for path in write_charts(tmp_path, stats)] == pictures


@pytest.mark.parametrize("name", ["matplotlib.figure", "wordcloud"])
def test_without_the_extra_charts_are_refused_in_one_line(prepared, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'mre_jax\[report\]'"):
        write_charts(tmp_path, describe(StatsSpec(prepared)))


def test_groups_and_what_was_left_out_are_told(prepared, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "set")
    manifest = load_manifest(folder)
    left_out = {"example": 3, "reason": "set.csv:4: no picture x.png"}
    measured = {"groups": 5, "skipped": [left_out]}
    write_manifest(folder, dataclasses.replace(manifest, measured=measured))
    lines = str(describe(StatsSpec(folder))).splitlines()
    assert "groups: 5, of each of which an epoch reads one example" in lines
    assert "left out as bad: 1, the first set.csv:4: no picture x.png" in lines
