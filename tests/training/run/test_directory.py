import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest

from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.training.checkpoints.folder import MARKER
from mre_jax.training.config import (
    DataConfig,
    ModelConfig,
    TrainConfig,
    ValidationConfig,
    load_config,
)
from mre_jax.training.run import directory as run_directory
from mre_jax.training.run import environment
from mre_jax.training.run.directory import KINDS, RunDirectory, committed_step
from mre_jax.training.run.identity import FLAG, Identity, check_same_run
from mre_jax.training.settings import keys
from tests.training.attempts import exit_reason

CONFIG = TrainConfig(
    name="small",
    steps=4,
    model=ModelConfig(init_from="models/tiny"),
    data=DataConfig(paths=("shards",), batch_size=4),
    validation=ValidationConfig(data=("held",), items="held-out.jsonl"),
)
IDENTITY = Identity(CONFIG, ("a" * 64,), "b" * 64)

# Another value of every setting; those that leave the next step as it is are free.
OTHER = {
    "name": "other",
    "steps": 5,
    "seed": 1,
    "model.init_from": "models/moved",
    "model.base": "models/other",
    "model.trained": ["unet", "qformer"],
    "model.in_channels": 4,
    "model.reward": {},
    "model.compute_dtype": "float32",
    "model.attention": "plain",
    "model.remat": True,
    "model.ema_decay": None,
    "data.paths": ["moved"],
    "data.batch_size": 8,
    "data.weights": [1.0],
    "data.resolution": 128,
    "data.resize": 300,
    "data.fit": "crop",
    "data.filter": "bicubic",
    "data.flip": 0.0,
    "data.min_score": 2.0,
    "data.cache": "never",
    "data.none_for_top": False,
    "data.reward_cut": "share",
    "data.templates": "templates.txt",
    "data.template_by": "example",
    "data.text_tokens": 100,
    "data.threads": 1,
    "data.workers": 1,
    "data.ahead": 1,
    "data.requests": 7,
    "loss.objective": "replies_and_edits",
    "loss.language_weight": 2.0,
    "loss.dropout": 0.1,
    "loss.reward_dropout": 0.1,
    "loss.prediction_type": "v_prediction",
    "loss.score_weighting": "linear",
    "loss.terms": {"squared_error": 2.0},
    "loss.min_snr_gamma": 5.0,
    "loss.preference": {},
    "optimizer.learning_rate": 1e-4,
    "optimizer.reward_rate_scale": 2.0,
    "optimizer.beta1": 0.8,
    "optimizer.beta2": 0.99,
    "optimizer.epsilon": 1e-6,
    "optimizer.weight_decay": 0.0,
    "optimizer.max_grad_norm": 2.0,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_steps": 1,
    "optimizer.accumulation": 2,
    "mesh.data": 1,
    "mesh.fsdp": 2,
    "mesh.shard_optimizer": False,
    "checkpoint.every": 1,
    "checkpoint.keep": 1,
    "checkpoint.keep_every": 2,
    "checkpoint.pinned": [1],
    "validation.every": 1,
    "validation.data": ["held-out"],
    "validation.examples": 9,
    "validation.loss_every": 1,
    "validation.items": "items.jsonl",
    "validation.count": 1,
    "validation.steps": 1,
    "validation.guidance_scale": 2.0,
    "validation.image_guidance_scale": 2.0,
    "log.every": 1,
    "log.tensorboard": False,
    "log.profile_at": 1,
    "log.profile_steps": 1,
    "guard.non_finite_limit": 1,
    "guard.max_skipped": 3.0,
    "guard.compare_replicas_every": 1,
    "guard.watchdog_seconds": 1.0,
}
# What other settings must be, that a setting can be changed alone.
BEFORE = {
    "loss.objective": {"data.flip": 0.0},
    "model.trained": {"data.flip": 0.0, "loss.objective": "replies_and_edits"},
}
FREE = {"name", "steps", "data.paths", "data.threads", "data.workers", "data.ahead"}
FREE |= {"model.init_from", "model.base", "model.remat", "model.attention"}
FREE |= {"data.requests", "optimizer.accumulation"}
FREE |= {key for key in OTHER if key.startswith(("mesh", "checkpoint", "valid", "log", "guard"))}


@pytest.fixture(autouse=True)
def no_git(monkeypatch):
    """Three processes a run; one test looks at git."""
    monkeypatch.setattr(run_directory, "git_id", lambda: "0" * 40)


def changed(config, key, value):
    mapping = config.to_dict()
    *sections, name = key.split(".")
    section = mapping
    for part in sections:
        section = section[part]
    section[name] = value
    return TrainConfig.from_dict(mapping)


def other(**values):
    return dataclasses.replace(IDENTITY, **values)


def finish_checkpoint(run, step):
    """What is left of a run that has saved, as far as the directory looks."""
    folder = run.checkpoints / str(step)
    folder.mkdir(parents=True)
    (folder / MARKER).write_text("")


def test_a_run_explains_itself(tmp_path):
    run = RunDirectory(tmp_path / "run")
    assert not run.exists()
    with run.opened(IDENTITY, argv=["mre", "train"]):
        run.event("init_done")
        run.event("first_step", step=1)
        run.event("save_begin", step=4)
        run.event("save_commit", step=4)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config_hash"] == CONFIG.hash and record["config"] == CONFIG.to_dict()
    assert record["data"] == ["a" * 64] and record["init"] == "b" * 64
    (attempt,) = record["attempts"]
    assert attempt["argv"] == ["mre", "train"] and attempt["git"] == "0" * 40
    assert attempt["topology"]["devices"] == 8 and attempt["topology"]["processes"] == 1
    assert {"jax", "flax", "optax", "orbax-checkpoint", "mre_jax"} <= attempt["versions"].keys()
    assert load_config(tmp_path / "run" / "config.yaml") == CONFIG
    events = run.events()
    assert [row["event"] for row in events] == [
        *("job_start", "init_done", "first_step", "save_begin", "save_commit", "stop")
    ]
    assert all(row["attempt"] == 1 for row in events)
    elapsed = [row["elapsed"] for row in events]
    assert elapsed == sorted(elapsed) and elapsed[0] >= 0
    assert exit_reason(events) == "done (exit code 0)"
    assert committed_step(events) == 4
    assert run.validation.is_dir() and run.tensorboard.is_dir()


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (DataError("shard 3 is damaged"), "shard 3 is damaged", 65),
        (ConfigError("steps"), "steps", 78),
        (BusyError("preempted, saved"), "preempted, saved", 75),
        (RuntimeError("out of memory\nallocator says"), "RuntimeError: out of memory", 70),
        (KeyboardInterrupt(), "interrupted", 130),
        (SystemExit(75), "exit", 75),
    ],
)
def test_the_reason_of_an_end_is_recorded(tmp_path, error, reason, code):
    run = RunDirectory(tmp_path)
    with pytest.raises(type(error)), run.opened(IDENTITY):
        raise error
    last = run.events()[-1]
    assert (last["event"], last["reason"], last["exit_code"]) == ("stop", reason, code)


def test_the_first_reason_counts(tmp_path):
    run = RunDirectory(tmp_path)
    with run.opened(IDENTITY):
        run.stop("preempted, saved step 3", 75, step=3)
    assert [row["event"] for row in run.events()] == ["job_start", "stop"]
    assert exit_reason(run.events()) == "preempted, saved step 3 (exit code 75)"


def test_several_attempts_follow_each_other(tmp_path):
    for _ in range(3):
        with RunDirectory(tmp_path).opened(IDENTITY):
            pass
    run = RunDirectory(tmp_path)
    assert [attempt["attempt"] for attempt in run.attempts()] == [1, 2, 3]
    assert [row["attempt"] for row in run.events()] == [1, 1, 2, 2, 3, 3]
    assert run.identity() == IDENTITY


def test_readable_and_resumable_after_a_kill_at_any_byte(tmp_path):
    run = RunDirectory(tmp_path)
    with run.opened(IDENTITY):
        for step, kind in enumerate(KINDS[1:-1]):
            run.event(kind, step=step)
    finish_checkpoint(run, KINDS.index("save_commit") - 1)
    events = tmp_path / "events.jsonl"
    whole = events.read_bytes()
    for end in range(0, len(whole) - 1, 29):
        events.write_bytes(whole[:end])
        left = run.events()
        assert len(left) == whole[:end].count(b"\n")
        assert exit_reason(left).startswith("killed" if left else "never started")
        with RunDirectory(tmp_path).opened(IDENTITY):
            pass
        assert [row["event"] for row in run.events()[len(left) :]] == ["job_start", "stop"]


@pytest.mark.slow
def test_a_killed_process_leaves_its_events_and_no_lock(tmp_path):
    program = f"""
import sys, time
from tests.training.run.test_directory import IDENTITY, RunDirectory
with RunDirectory({str(tmp_path)!r}).opened(IDENTITY) as run:
    run.event("first_step", step=1)
    print("ready", flush=True)
    time.sleep(100)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    with pytest.raises(BusyError), RunDirectory(tmp_path).opened(IDENTITY):
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    run = RunDirectory(tmp_path)
    assert exit_reason(run.events()).startswith("killed or still running")
    with run.opened(IDENTITY):
        assert run.attempt == 2


def test_only_the_first_process_writes(tmp_path):
    run = RunDirectory(tmp_path / "run", writes=False)
    with run.opened(IDENTITY):
        run.event("first_step", step=1)
        run.stop("done", 0)
    assert not (tmp_path / "run").exists()


def test_every_process_refuses_another_run(tmp_path):
    with RunDirectory(tmp_path).opened(IDENTITY) as run:
        finish_checkpoint(run, 4)
    another = other(config=changed(CONFIG, "seed", 1))
    for writes in (True, False):
        run = RunDirectory(tmp_path, writes=writes)
        with pytest.raises(ConfigError, match="seed was 0 and is 1"), run.opened(another):
            pass
    assert len(RunDirectory(tmp_path).attempts()) == 1  # a refused start is none


def test_a_run_that_never_saved_takes_its_correction(tmp_path):
    """What a start was refused for afterwards, or ran out of memory with, may be changed."""
    with pytest.raises(DataError), RunDirectory(tmp_path).opened(IDENTITY):
        raise DataError("the batch is too large")
    now = other(config=changed(CONFIG, "data.batch_size", 2))
    for writes in (False, True):
        run = RunDirectory(tmp_path, writes=writes)
        with run.opened(now):
            pass
    assert run.identity() == now
    assert load_config(tmp_path / "config.yaml") == now.config
    first, second = run.attempts()
    assert first["changes"] == []
    assert second["changes"] == ["data.batch_size was 4 and is 2"]
    assert [row["attempt"] for row in run.events()] == [1, 1, 2, 2]


def test_damaged_checkpoints_bind_a_directory_too(tmp_path):
    with RunDirectory(tmp_path).opened(IDENTITY) as run:
        (run.checkpoints / "4.bad").mkdir(parents=True)
    with (
        pytest.raises(ConfigError, match="seed was 0 and is 1"),
        RunDirectory(tmp_path).opened(other(config=changed(CONFIG, "seed", 1))),
    ):
        pass


def test_checkpoints_that_are_gone_are_never_begun_anew(tmp_path):
    with RunDirectory(tmp_path).opened(IDENTITY) as run:
        run.event("save_commit", step=3)
        run.event("save_commit", step=4)
    for writes in (False, True):
        with (
            pytest.raises(DataError, match=r"checkpoints: no checkpoint in it, .* has step 4; .*"),
            RunDirectory(tmp_path, writes=writes).opened(IDENTITY, allow_config_change=True),
        ):
            pass
    assert len(run.attempts()) == 1


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("of the user's")
    path = tmp_path / "file" / "run"
    with (
        pytest.raises(ConfigError, match=f"--run {path}: Not a directory"),
        RunDirectory(path).opened(IDENTITY),
    ):
        pass


class TestLostRecord:
    """Of a run.json that is gone, beside checkpoints that say by hashes whose they are."""

    @pytest.fixture
    def path(self, tmp_path):
        with RunDirectory(tmp_path).opened(IDENTITY) as run:
            finish_checkpoint(run, 4)
        (tmp_path / "run.json").unlink()
        return tmp_path

    def test_the_same_run_goes_on(self, path):
        with RunDirectory(path).opened(IDENTITY, meta=IDENTITY.to_meta()) as run:
            assert run.attempt == 2

    @pytest.mark.parametrize(
        ("now", "named"),
        [
            (other(data=("c" * 64,)), "content of data.paths was 'a{12}' and is 'c{12}'"),
            (other(init="c" * 64), "content of model.init_from was"),
            (other(config=changed(CONFIG, "seed", 1)), "hash of the configuration was"),
        ],
        ids=["data", "weights", "configuration"],
    )
    def test_another_is_refused_by_what_differs(self, path, now, named):
        meta = IDENTITY.to_meta()
        with (
            pytest.raises(ConfigError, match=named) as caught,
            RunDirectory(path).opened(now, meta=meta),
        ):
            pass
        assert str(caught.value).count(" was ") == 2 and FLAG in str(caught.value)
        assert not (path / "run.json").exists()
        with RunDirectory(path).opened(now, meta=meta, allow_config_change=True) as run:
            assert len(run.attempts()[0]["changes"]) == 1

    def test_checkpoints_that_do_not_say_whose_they_are_get_no_new_record(self, path):
        with (
            pytest.raises(DataError, match=r"its run\.json is gone, and no checkpoint says"),
            RunDirectory(path).opened(other(config=changed(CONFIG, "seed", 1))),
        ):
            pass
        assert not (path / "run.json").exists()


def test_an_attempt_ends_with_an_account_of_the_runs_time(tmp_path):
    for number in range(2):
        run = RunDirectory(tmp_path)
        with run.opened(IDENTITY):
            assert run.goodput is None
            run.event("first_step", step=1)
            run.event("step", step=2)
        assert run.goodput is not None
        told = run.events()[-1]["goodput"]
        assert told == run.goodput.to_dict()
        assert told["restarts"] == number
        assert 0 <= told["share"] <= 1
        assert told["seconds"].keys() == {"productive", "starting", "blocked", "lost", "down"}


def test_a_second_process_at_the_same_run_is_told_so(tmp_path):
    with (
        RunDirectory(tmp_path).opened(IDENTITY),
        pytest.raises(BusyError),
        RunDirectory(tmp_path).opened(IDENTITY),
    ):
        pass


def test_every_setting_has_another_value_here():
    groups = ("model.reward", "loss.preference")  # that may be null as a whole
    settings = {
        next((group for group in groups if key.startswith(f"{group}.")), key)
        for key in keys(TrainConfig)
    }
    assert settings == set(OTHER)


@pytest.mark.parametrize("key", sorted(OTHER.keys() - FREE))
def test_another_configuration_is_refused_and_the_flag_overrides(key):
    config = CONFIG
    for needed, value in BEFORE.get(key, {}).items():
        config = changed(config, needed, value)
    before, now = other(config=config), other(config=changed(config, key, OTHER[key]))
    with pytest.raises(ConfigError) as caught:
        check_same_run(before, now)
    (difference,) = check_same_run(before, now, allow=True)
    message = str(caught.value)
    # A setting that is a mapping is compared entry by entry.
    assert difference.key in (key, f"{key}.squared_error") and str(difference) in message
    assert FLAG in message and "\n" not in message


@pytest.mark.parametrize("key", sorted(FREE))
def test_what_changes_no_step_may_change(key):
    now = other(config=changed(CONFIG, key, OTHER[key]))
    assert [difference.key for difference in check_same_run(IDENTITY, now)] == [key]


def test_more_steps_are_another_run_where_the_rate_depends_on_them():
    config = changed(CONFIG, "optimizer.schedule", "cosine")
    with pytest.raises(ConfigError, match="steps was 4 and is 5"):
        check_same_run(other(config=config), other(config=changed(config, "steps", 5)))


def test_a_change_within_the_reward_is_named_by_its_key():
    was = other(config=changed(CONFIG, "model.reward", {}))
    now = other(config=changed(CONFIG, "model.reward", {"form": "released"}))
    with pytest.raises(ConfigError, match=r"model\.reward\.form was 'paper' and is 'released'"):
        check_same_run(was, now)


def test_all_that_differs_is_named_at_once():
    now = other(config=changed(changed(CONFIG, "seed", 1), "data.flip", 0.0))
    with pytest.raises(ConfigError, match=r"data\.flip was 0\.5 and is 0\.0; seed was 0 and is 1"):
        check_same_run(IDENTITY, now)


def test_other_data_and_other_weights_are_refused_whatever_their_path():
    with pytest.raises(ConfigError, match=r"content of data\.paths was 'a{12}' and is 'c{12}'"):
        check_same_run(IDENTITY, other(data=("c" * 64,)))
    with pytest.raises(ConfigError, match=r"content of model\.init_from"):
        check_same_run(IDENTITY, other(init="c" * 64))
    assert check_same_run(IDENTITY, other(init=None)) == []


def test_weights_that_were_not_looked_at_must_have_their_path():
    now = other(config=changed(CONFIG, "model.init_from", "models/other"), init=None)
    with pytest.raises(ConfigError, match=r"model\.init_from was 'models/tiny'"):
        check_same_run(IDENTITY, now)


def test_a_permitted_change_is_recorded(tmp_path):
    with RunDirectory(tmp_path).opened(IDENTITY) as run:
        finish_checkpoint(run, 4)
    now = other(config=changed(CONFIG, "seed", 1))
    with RunDirectory(tmp_path).opened(now, allow_config_change=True) as run:
        assert run.identity() == now
        assert run.attempts()[1]["changes"] == ["seed was 0 and is 1"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": {"colour": 1}}'])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json"):
        RunDirectory(tmp_path).identity()


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(DataError, match=r"is no run"):
        RunDirectory(tmp_path).identity()


def test_an_unknown_event_is_a_mistake_of_the_program(tmp_path):
    with pytest.raises(ValueError, match="save_comit"):
        RunDirectory(tmp_path).event("save_comit")


def test_the_commit_is_that_of_this_code(monkeypatch):
    commit = environment.git_id()
    if commit is not None:  # a copy without its repository has none
        assert len(commit.partition("+")[0]) == 40
    monkeypatch.setattr(environment.mre_jax, "__file__", "/nowhere/mre_jax/__init__.py")
    assert environment.git_id() is None
