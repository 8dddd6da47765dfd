"""A loop that was ended anywhere goes on to the same bytes."""

import dataclasses
import functools
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mre_jax import cli
from mre_jax.data.prepare import CacheOptions, CacheSpec, cache
from mre_jax.data.records.record_source import RecordSource
from mre_jax.improvement import stages as job
from mre_jax.improvement.improve import improve
from tests.training.conftest import editor  # noqa: F401 (a fixture)
from tests.training.train_files import PATIENCE, write_config

STAGES = ("sample", "annotate", "prepare", "train", "export", "write_atomically")


class Stop(Exception):
    pass


def interrupting(monkeypatch, at):
    """Ends the loop before or after a call of a stage: at 0 before the first, at 1 after it."""
    moments = itertools.count()

    def moment():
        if next(moments) == at:
            raise Stop

    def wrapped(call, *arguments, **options):
        moment()
        found = call(*arguments, **options)
        moment()
        return found

    for name in STAGES:
        monkeypatch.setattr(job, name, functools.partial(wrapped, getattr(job, name)))
    evaluate = job.RealEdit.evaluate
    monkeypatch.setattr(job.RealEdit, "evaluate", lambda suite: wrapped(evaluate, suite))


JOURNAL = "judge.jsonl"
"""Its answers have times."""


def files(folder, *but):
    """The content of all files but locks, and those of these names or in folders of these names."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and "lock" not in path.name and not {*path.parts} & {*but}
    }


@pytest.mark.slow
def test_between_any_two_stages(begun, stand):
    config, spec = begun
    spec = dataclasses.replace(spec, edits=1, rounds=1, control=True)
    whole = improve(config, spec)
    wanted = files("out", JOURNAL)
    Path("out").rename("whole")
    ends = 0
    for at in itertools.cycle((1, 5, 0, 4)):
        with pytest.MonkeyPatch.context() as patch:
            interrupting(patch, at)
            try:
                found = improve(config, spec)
                break
            except Stop:
                ends += 1
        assert ends < 60  # one that begins anew for ever
    assert ends > 8
    assert found == whole
    assert files("out", JOURNAL) == wanted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* tokens, 16 fit")  # the tiny editor's window is that short
def test_killed_while_it_trains(toy, shards, editor, tmp_path, monkeypatch):  # noqa: F811
    """By an editor that learns, on a set with cached latents."""
    monkeypatch.chdir(tmp_path)
    cached = CacheOptions(text=True, resolution=16, filter="lanczos")
    cache(CacheSpec(shards, model=editor, out="cached", cached=cached))
    changes = {"steps": 4, "checkpoint": {"every": 1}, "guard": {"watchdog_seconds": 0}}
    write_config(Path("config.yaml"), editor, Path("cached"), **changes)
    words = (
        f"improve config.yaml --held-out {toy}/benchmark --out out --rounds 1 --edits 2 --steps 2 "
        f"--size keep --batch-size 1 --judge toy --scenes {toy}/triplets"
    ).split()
    assert cli.main(words) == 0
    assert RecordSource("out/round-1/set").cache == RecordSource("cached").cache
    kept = ("run", JOURNAL, f"{JOURNAL}.pictures.jsonl")
    wanted = files("out", *kept)
    Path("out").rename("whole")
    with Path("log").open("wb") as log:
        killed = subprocess.Popen(
            [sys.executable, "-m", "mre_jax", *words], env=os.environ, stdout=log, stderr=log
        )
        end = time.monotonic() + PATIENCE
        while not Path("out/round-1/run/checkpoints/1").exists():
            assert killed.poll() is None and time.monotonic() < end, Path("log").read_text()
            time.sleep(0.01)
        killed.kill()
        killed.wait()
    assert not Path("out/round-1/round.json").exists()
    assert cli.main(words) == 0
    assert files("out", *kept) == wanted
    assert any(name.startswith("round-1/model/unet/") for name in wanted)
