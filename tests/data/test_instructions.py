"""Of several instructions of an example an epoch draws one, whoever reads it and however often."""

import json
from collections import Counter

import pytest

from mre_jax import cli
from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.batches.loader import Loader
from mre_jax.data.prepare import PreparedSource
from mre_jax.data.records.manifest import check_manifest
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.sources import open_source
from mre_jax.data.sources.selection import WHOLE, read_checked
from mre_jax.data.stats import StatsSpec, describe
from mre_jax.errors import DataError
from tests.data.pictures import AFTER, BEFORE

pytest.importorskip("tensorflow_datasets")

TEXTS = "go", "run", "fly"
COUNT = 8


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A set whose even examples have three instructions, and the odd ones one."""
    root = tmp_path_factory.mktemp("set")
    write_table(root, [list(TEXTS) if n % 2 == 0 else "walk" for n in range(COUNT)])
    assert cli.main(["prepare", "table", f"{root}/t.jsonl", "--out", f"{root}/out"]) == 0
    return root / "out"


def write_table(folder, instructions):
    for name, data in (("a.png", BEFORE), ("b.png", AFTER)):
        (folder / name).write_bytes(data)
    row = {"original": "a.png", "edited": "b.png"}
    rows = [row | {"id": f"e{n}", "instruction": text} for n, text in enumerate(instructions)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "t.jsonl"


def epoch(source, number, hosts=1, **options):
    """What an epoch reads, by id."""
    read = {}
    for step in range(number * COUNT // 4, (number + 1) * COUNT // 4):
        for host in range(hosts):
            loader = Loader(
                [source], 4, seed=1, augmentation=Augmentation(8), host=host, hosts=hosts, **options
            )
            batch = loader.batch(step)
            found = loader.find(batch.positions)
            ids = [source[record].id for source, record in found]
            read |= dict(zip(ids, batch.instruction, strict=True))
    return read


def test_the_set_keeps_them_all_and_tells_their_number(prepared):
    source = RecordSource(prepared)
    assert source[0].instructions == TEXTS
    assert source[0].instruction in TEXTS
    assert (source[1].instruction, source[1].instructions) == ("walk", ())
    assert check_manifest(prepared).measured["several_instructions"] == COUNT // 2
    assert describe(StatsSpec(prepared)).several == COUNT // 2
    (again,) = PreparedSource(prepared).read([2])
    assert again.instructions == TEXTS


def test_every_epoch_draws_anew_and_alike_on_all_hosts(prepared):
    source = RecordSource(prepared)
    epochs = [epoch(source, number) for number in range(30)]
    assert [epoch(source, number, hosts=2) for number in range(3)] == epochs[:3]
    drawn = Counter(read[f"e{n}"] for read in epochs for n in range(0, COUNT, 2))
    assert set(drawn) == set(TEXTS)
    assert min(drawn.values()) > 20  # of 40 on average
    assert len({tuple(sorted(read.items())) for read in epochs}) > 20
    assert {read[f"e{n}"] for read in epochs for n in range(1, COUNT, 2)} == {"walk"}


@pytest.mark.parametrize("texts", [["go", " "], ["go", None], []])
def test_a_list_that_holds_no_instruction_is_a_bad_row(tmp_path, texts):
    source = open_source("table", write_table(tmp_path, [texts, "go"]))
    bad, whole = read_checked(source, range(2), WHOLE)
    assert isinstance(bad, DataError)
    assert "t.jsonl:1: the instruction" in str(bad)
    assert whole.instruction == "go"


def test_a_list_of_one_is_that_one(tmp_path):
    (triplet,) = open_source("table", write_table(tmp_path, [["go"]])).read([0])
    assert (triplet.instruction, triplet.instructions) == ("go", ())
