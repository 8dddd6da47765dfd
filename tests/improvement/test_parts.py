"""The parts of the loop by themselves, and what is refused in one line."""

import dataclasses
import json

import pytest

from mre_jax import cli
from mre_jax.data.batches.order import Order, positions
from mre_jax.errors import ConfigError
from mre_jax.improvement.improve import improve
from mre_jax.improvement.mixture import mix
from mre_jax.improvement.own_edits import choose


@pytest.mark.parametrize("weights", [None, (3.0, 1.0)])
def test_a_mixture_is_what_training_reads(weights):
    sizes, own = [60, 40], [50, 25]
    mixture = mix(sizes, own, weights=weights, max_own_share=0.2)
    order = Order((*sizes, *own), 0, mixture.weights)
    sets, _ = order.locate(positions(0, 1000))
    shares = [(sets == number).mean() for number in range(4)]
    assert sum(shares[2:]) == pytest.approx(0.2) == mixture.own_share
    assert shares[2] == pytest.approx(2 * shares[3], abs=0.002)
    assert shares[0] / shares[1] == pytest.approx(3 if weights else 1.5, abs=0.01)


def test_rounds_go_through_all_examples_before_any_comes_again():
    rounds = [choose([5, 4], 3, seed=1, round=number) for number in range(1, 7)]
    assert all(len(set(one)) == 3 and one == sorted(one) for one in rounds)
    everything = [(0, n) for n in range(5)] + [(1, n) for n in range(4)]
    for three in (rounds[:3], rounds[3:]):
        assert sorted(example for one in three for example in one) == everything
    assert rounds[:3] == rounds[3:] != [choose([5, 4], 3, seed=2, round=n) for n in (1, 2, 3)]
    assert choose([5, 4], 100, seed=1, round=2) == everything


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "--rounds 0: want at least 1"),
        ({"seeds_per_edit": 0}, "--seeds-per-edit 0: want at least 1"),
        ({"max_own_share": 1.0}, "--max-own-share 1: want a share above 0 and below 1"),
        ({"max_own_share": 0.0}, "--max-own-share 0: want a share above 0 and below 1"),
        ({"out": "gs://bucket/loop"}, "gs://bucket/loop"),
        ({"size": "7x7"}, "both sides must be multiples of 8"),
        ({"scenes": None}, "--judge toy knows scenes; give the triplets of mre toy as --scenes"),
        ({"judge": "nobody"}, "judge 'nobody': want one of"),
        ({"judge": ""}, "no --judge"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(begun, stand, changes, message, tmp_path):
    config, spec = begun
    if "judge" in changes:
        changes = {"judge": dataclasses.replace(spec.judge, name=changes["judge"])}
    with pytest.raises(ConfigError, match=message):
        improve(config, dataclasses.replace(spec, **changes))
    assert not (tmp_path / "out").exists()


def test_too_few_edits_beside_the_sets_are_refused_before_they_are_paid_for(begun, stand):
    config, spec = begun
    with pytest.raises(ConfigError, match=r"4 own edits a round \(--edits\): data\.weights=.* the"):
        improve(config, dataclasses.replace(spec, max_own_share=1e-4))


def test_a_benchmark_of_one_picture_is_too_small(begun, stand, toy, tmp_path):
    config, spec = begun
    folder = tmp_path / "one"
    (folder / "images").mkdir(parents=True)
    texts = json.loads((toy / "benchmark" / "instructions.json").read_text())
    name, lines = next(iter(texts.items()))
    (folder / "instructions.json").write_text(json.dumps({name: lines}))
    (folder / "images" / name).write_bytes((toy / "benchmark/images" / name).read_bytes())
    with pytest.raises(ConfigError, match="--held-out: one picture is too few to tell a rise"):
        improve(config, dataclasses.replace(spec, held_out=folder))


def test_pictures_that_were_dropped_cannot_be_edited(begun, stand, monkeypatch):
    from mre_jax.data.cache.description import THUMBNAILS, Cache
    from mre_jax.data.records.record_source import RecordSource

    cache = Cache("vae", "float16", 16, "lanczos", (2, 2, 4), pictures=THUMBNAILS)
    monkeypatch.setattr(RecordSource, "cache", cache)
    with pytest.raises(ConfigError, match="its pictures were dropped; cache it with them"):
        improve(*begun)


def test_the_command_prints_what_came_of_it(begun, stand, toy, capsys):
    config, _ = begun
    config.save("config.yaml")
    words = (
        f"improve config.yaml name=mine --held-out {toy}/benchmark --out out --rounds 1 --edits 2 "
        f"--steps 1 --size keep --judge toy --scenes {toy}/triplets"
    )
    assert cli.main(words.split()) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "best: round 1, out/round-1/model"
    assert "round 1: training" in out
    assert stand.trainings[0].name == "mine, round-1"
    assert cli.main([*words.split(), "--edits", "3"]) == 78
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_refuses_in_one_line(begun, stand, toy, capsys):
    words = "improve nowhere.yaml --held-out x --out out --judge toy"
    assert cli.main(words.split()) == 78
    error = capsys.readouterr().err
    assert error.startswith("mre improve: nowhere.yaml") and error.count("\n") == 1
