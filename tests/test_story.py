"""From flawed triplets to a page of results, by the commands that a user types."""

import json
from pathlib import Path

import pytest

from mre_jax import cli
from mre_jax.evaluation.results import read_results
from mre_jax.judges.journal import read_verdicts
from mre_jax.toyworld import EDITOR
from tests.judges.conftest import KEY, server  # noqa: F401 (a fixture)
from tests.judges.server import MODEL

EXAMPLES, SCENES = 8, 1
CONFIG = Path(__file__).parents[1] / "configs" / "reward_ip2p.yaml"
# The shipped editor is small: 24 pixels.
CHANNELS = json.loads((EDITOR / "unet" / "config.json").read_text())["in_channels"]
SETTINGS = (
    f"model.in_channels={CHANNELS} model.reward.num_attention_heads=4 model.compute_dtype=float32 "
    "data.resolution=24 data.resize=24 data.batch_size=8 data.cache=required "
    "steps=2 log.tensorboard=false"
)

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    mre(f"toy --out {folder} --examples {EXAMPLES} --benchmark {SCENES} --size 24 --format png "
        "--workers 1")  # fmt: skip
    return folder


def mre(command):
    assert cli.main(command.split()) == 0, f"mre {command}"


def tell(at, toy, judge):
    """Every step of the README, with two steps of training."""
    mre(f"annotate {toy} {judge} --out {at}/journal.jsonl --rewards {at}/RewardEdit.json")
    mre(f"prepare instruct_pix2pix {toy}/triplets --rewards {at}/RewardEdit.json --out {at}/shards")
    mre(f"data cache {at}/shards --model {EDITOR} --text --resolution 24 "
        f"--filter bicubic --out {at}/cached")  # fmt: skip
    mre(f"train {CONFIG} model.init_from={EDITOR} data.paths=[{at}/cached] {SETTINGS} "
        f"--run {at}/run --alone")  # fmt: skip
    mre(f"export {at}/run --out {at}/model")
    # As in Table 1; the reward that is asked for by default is the best.
    sampling = f"--size keep --steps 2 --batch-size 1 {judge} --out {at}/results"
    mre(f"evaluate real-edit {toy}/benchmark --system InsPix2Pix --model {EDITOR} {sampling}")
    mre(f"evaluate real-edit {toy}/benchmark --system Ours --model {at}/model {sampling}")
    results = f"{at}/results/results.jsonl"
    mre(f"tables {results} --table 1 --row 1:InsPix2Pix=InsPix2Pix "
        f"--row 1:Reward-InsPix2Pix=Ours@5,5,5 --out {at}/tables.txt")  # fmt: skip
    mre(f"report {results} --out {at}/report.html")


def check(at, model):
    """What the steps have left behind, all scores by one judge."""
    verdicts = list(read_verdicts(at / "journal.jsonl"))
    assert (len(verdicts), {v.model for v in verdicts}) == (3 * EXAMPLES, {model})
    assert len(json.loads((at / "RewardEdit.json").read_text())) == EXAMPLES
    rows = read_results(at / "results" / "results.jsonl")
    assert len(rows) == 2 * 7 * SCENES * 3
    assert {(row.status, row.measure) for row in rows} == {("ok", model)}
    assert {(row.system, row.condition) for row in rows} == {("InsPix2Pix", ""), ("Ours", "5,5,5")}
    assert len({row.checkpoint for row in rows}) == 2
    table = (at / "tables.txt").read_text()
    assert "Reward-InsPix2Pix" in table and table.count("7/7") == 2, table
    page = (at / "report.html").read_text()
    assert all(row.instruction in page for row in rows)
    assert page.count("data:image/") >= 7 * SCENES  # the originals, to say the least


@pytest.mark.slow
def test_by_the_exact_judges(toy, tmp_path):
    tell(tmp_path, toy, "--judge toy")
    check(tmp_path, "toy-1")
    # The exact judge finds the rewards that the toy world comes with.
    known, found = ((f / "RewardEdit.json").read_text() for f in (toy, tmp_path))
    assert json.loads(found) == json.loads(known)


@pytest.mark.slow
def test_by_a_server_whose_key_is_nowhere(toy, server, tmp_path, capfd):  # noqa: F811
    tell(tmp_path, toy, f"--judge openai:{MODEL} --base-url {server.url}")
    check(tmp_path, MODEL)
    assert server.requests.total() == 3 * EXAMPLES + 2 * 7 * SCENES * 3
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in "".join(capfd.readouterr())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
