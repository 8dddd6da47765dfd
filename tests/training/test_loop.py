"""The loop around a step that is cheap: what it saves, logs and checks, when, and how it ends."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.io.growing_file import rows_so_far
from mre_jax.training import loop as module
from mre_jax.training.checkpoints.checkpoint import Checkpoints, SaveError
from mre_jax.training.loop import Loop, Preempted
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.run.identity import Identity
from mre_jax.training.run.meter import Meter
from mre_jax.training.run.metrics_log import MetricsLog
from mre_jax.training.skipped import SkippedSteps
from mre_jax.training.step import Metrics
from tests.training.attempts import exit_reason
from tests.training.states import same_bits
from tests.training.tiny_run import train_config

BAD = 3
"""Place of the example that spoils a batch."""

META = {"config": "c", "data": ["d"], "init": "w"}


@jax.jit
def step(state, frozen, batch):
    """Adds the batch to the parameters; one that is not finite is skipped."""
    del frozen
    finite = jnp.isfinite(batch)
    skipped = jnp.where(finite, 0, state["skipped"] + 1)
    weights = jnp.where(finite, state["params"]["w"] + batch, state["params"]["w"])
    scalars = batch, batch, jnp.sum(weights), jnp.float32(0.1)
    examples = finite | (jnp.arange(8) != BAD)
    metrics = Metrics(*scalars, skipped, *(jnp.ones(n) for n in (4, 4, 6, 6)), examples)
    new = {**state, "step": state["step"] + 1, "params": {"w": weights}, "skipped": skipped}
    return new, metrics


class Run:
    """A run of `steps` in a folder, of one attempt or several."""

    def __init__(self, folder, bad=(), **settings):
        settings = {"steps": 6, "checkpoint__every": 2, "log__every": 2, **settings}
        self.config = train_config(log__tensorboard=False, **settings)
        self.layout = Layout.of(self.config.mesh, make_mesh(self.config.mesh, jax.devices()[:1]))
        self.directory = RunDirectory(folder)
        self.bad, self.asked, self.validated = set(bad), [], []
        saving = self.config.checkpoint
        self.checkpoints = Checkpoints(
            self.directory.checkpoints, every=saving.every, keep=saving.keep, pinned=saving.pinned
        )

    def state(self, count=0):
        state = {
            "step": jnp.int32(count),
            "params": {"w": jnp.arange(8.0)},
            "ema": {},
            "optimizer": {"mu": jnp.zeros(8)},
            "skipped": jnp.int32(0),
        }
        return jax.device_put(state, self.layout.replicated)

    def batches(self, start, stop):
        self.asked.append((start, stop))
        for index in range(start, stop):
            yield jnp.float32(np.nan if index + 1 in self.bad else index)

    def names(self, step, rows):
        return [f"{step}/{row}" for row in rows]

    def validate(self, state, done):
        self.validated.append((done, int(state["step"])))
        return np.zeros((4, 4, 3), np.uint8)

    def held_out(self, state):
        return {"held_out_loss": float(state["step"])}

    def train(self, start=0, state=None, batches=None):
        with self.directory.opened(Identity(self.config, ("d",), "w")):
            log = MetricsLog(self.directory.metrics, tensorboard=None, start=start)
            self.skipped = SkippedSteps(self.directory, self.names, start)
            return Loop(
                self.config,
                step=step,
                frozen=None,
                batches=batches or self.batches,
                layout=self.layout,
                run=self.directory,
                checkpoints=self.checkpoints,
                meta=META,
                meter=Meter(8, None, None),
                log=log,
                skipped=self.skipped,
                validate=self.validate if self.config.validation.every else None,
                held_out=self.held_out if self.config.validation.loss_every else None,
            )(self.state(start) if state is None else state, start)

    def events(self, kind):
        return [row["step"] for row in self.directory.events() if row["event"] == kind]

    def restored(self):
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), self.state()
        )
        return Checkpoints(self.directory.checkpoints, every=1, keep=1).restore_newest(target)


def test_a_run_saves_on_its_way_and_at_its_end_and_says_so(tmp_path):
    run = Run(tmp_path, steps=5)
    state = run.train()
    assert run.checkpoints.committed() == [2, 4, 5]
    assert run.events("save_begin") == run.events("save_commit") == [2, 4, 5]
    assert run.events("first_step") == [1]
    assert exit_reason(run.directory.events()) == "done (exit code 0)"
    restored = run.restored()
    assert (restored.step, restored.meta) == (5, META)
    assert same_bits(restored.state, state)


def test_time_that_saving_takes_is_told(tmp_path):
    run = Run(tmp_path)
    run.train()
    commits = [row for row in run.directory.events() if row["event"] == "save_commit"]
    assert all(row["blocked"] > 0 for row in commits)


def test_a_run_goes_on_with_the_batch_after_its_last_step(tmp_path):
    run = Run(tmp_path)
    assert run.train(start=4) is not None
    assert run.asked == [(4, 6)]
    assert run.events("first_step") == [5]
    assert run.checkpoints.committed() == [6]


def test_rows_are_logged_every_so_often_and_at_the_end(tmp_path):
    run = Run(tmp_path, steps=5)
    run.train()
    rows = rows_so_far(run.directory.metrics)
    assert [(row["step"], row["loss"]) for row in rows] == [(2, 0.5), (4, 2.5), (5, 4.0)]


def test_r10_too_many_steps_that_are_not_finite_end_the_run(tmp_path):
    run = Run(tmp_path, bad=[2, 4, 5, 6, 7], steps=20, guard__non_finite_limit=3)
    with pytest.raises(DataError, match=r"step 6: .* 3 times in a row.* in 6/3; ") as raised:
        run.train()
    assert raised.value.exit_code == 65
    # Steps 2, 4 and 6 were due; nothing had changed in them.
    assert run.checkpoints.committed() == []
    assert "exit code 65" in exit_reason(run.directory.events())


def test_single_steps_that_are_not_finite_do_not(tmp_path):
    run = Run(tmp_path, bad=[2, 4], guard__non_finite_limit=2)
    run.train()
    rows = rows_so_far(run.directory.metrics)
    assert [row["skipped"] for row in rows] == [1, 1, 0]
    assert run.checkpoints.committed() == [6]
    assert run.skipped.count == 2


def test_the_log_says_how_many_steps_were_skipped_so_far(tmp_path, capsys):
    Run(tmp_path, bad=[2, 5], guard__watchdog_seconds=0).train()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert [", 1 skipped" in line for line in lines] == [True, True, False]
    assert ", 2 skipped" in lines[2]


def test_skipped_steps_that_are_done_again_count_once(tmp_path):
    """Killed after step 5, of which step 4 was saved; and step 5 is bad again."""

    def batches(start, stop):
        yield from itertools.islice(run.batches(start, stop), 6)
        raise RuntimeError("killed")

    run = Run(tmp_path, bad=[1, 5], steps=8, checkpoint__every=4)
    with pytest.raises(RuntimeError):
        run.train(batches=batches)
    run.train(start=4)
    assert run.skipped.count == 2
    assert run.events("skipped") == [1, 5, 5]


def test_the_count_of_such_steps_outlives_a_restart(tmp_path):
    run = Run(tmp_path, bad=range(7), guard__non_finite_limit=3)
    state = {**run.state(4), "skipped": jax.device_put(jnp.int32(2), run.layout.replicated)}
    with pytest.raises(DataError, match="step 5: "):
        run.train(4, state)


@pytest.mark.parametrize("at", [3, 4, 6])
def test_r6_a_run_that_is_told_to_end_saves_and_says_to_come_again(tmp_path, monkeypatch, at):
    """At a step that is due anyway, at another, and at the last."""
    run = Run(tmp_path)
    monkeypatch.setattr(run.checkpoints, "reached_preemption", lambda done: done == at)
    with pytest.raises(Preempted, match=f"saved step {at}") as raised:
        run.train()
    assert raised.value.exit_code == 75
    assert run.checkpoints.committed()[-1] == at
    assert run.events("save_begin") == run.events("save_commit")
    assert run.restored().step == at
    assert "exit code 75" in exit_reason(run.directory.events())


def test_validation_sees_the_state_of_its_step(tmp_path):
    run = Run(tmp_path, validation__every=3, validation__items="items.jsonl")
    run.train()
    assert run.validated == [(3, 3), (6, 6)]
    assert run.events("validation") == [3, 6]


def test_a_held_out_loss_stands_in_the_row_of_its_step(tmp_path, capsys):
    settings = {"validation__loss_every": 3, "validation__data": ["held"]}
    run = Run(tmp_path, guard__watchdog_seconds=0, **settings)
    run.train()
    rows = rows_so_far(run.directory.metrics)
    found = [(row["step"], row.get("held_out_loss")) for row in rows]
    assert found == [(2, None), (3, 3), (4, None), (6, 6)]
    assert run.events("validation") == [3, 6]
    lines = capsys.readouterr().err.splitlines()
    assert ["held out 3.0000" in line for line in lines] == [False, True, False, False]


def test_replicas_are_compared_every_so_often(tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(module, "compare_replicas", lambda state, done: compared.append(done))
    Run(tmp_path, guard__compare_replicas_every=4).train()
    assert compared == [4]


def test_data_that_is_damaged_ends_the_run_by_name(tmp_path):
    def batches(start, stop):
        yield from itertools.islice(run.batches(start, stop), 3)
        raise DataError("shard 0, record 7 at byte 123: damaged")

    run = Run(tmp_path)
    with pytest.raises(DataError):
        run.train(batches=batches)
    assert exit_reason(run.directory.events()).startswith("shard 0, record 7")
    assert run.restored().step == 2


def test_r5_a_save_that_failed_is_not_told_as_done(tmp_path, monkeypatch):
    run = Run(tmp_path, log__every=100)
    save = run.checkpoints.save

    def failing(done, *rest):
        if done == 4:
            monkeypatch.setattr(run.checkpoints, "committed", lambda: [])
            raise SaveError("step 2 could not be saved")
        return save(done, *rest)

    monkeypatch.setattr(run.checkpoints, "save", failing)
    with pytest.raises(SaveError):
        run.train()
    assert run.events("save_commit") == []
    assert "exit code 70" in exit_reason(run.directory.events())


def test_a_run_tells_of_its_rows_where_no_terminal_is(tmp_path, capsys):
    Run(tmp_path, guard__watchdog_seconds=0).train()  # It needs the stderr that is taken.
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "step 2/6: loss 0.5000",
        "step 4/6: loss 2.5000",
        "step 6/6: loss 4.5000",
    ]


def test_a_trace_that_is_past_is_told_of(tmp_path, capsys):
    settings = {"log__profile_at": 4, "log__every": 6, "guard__watchdog_seconds": 0}
    Run(tmp_path, **settings).train(start=4)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "warning: log.profile_at=4 is past: the run goes on after step 4, without a trace"
    )
    assert len(lines) == 2


@pytest.mark.slow
def test_a_trace_is_made_of_the_steps_that_are_asked_for(tmp_path):
    run = Run(tmp_path, log__profile_at=2, log__profile_steps=2)
    run.train()
    assert list(run.directory.tensorboard.glob("plugins/profile/*/*.xplane.pb"))
