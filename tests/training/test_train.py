"""`mre train`: a run to its end and on again, and every mistake named before anything compiles."""

import dataclasses
import io
import shutil
from contextlib import nullcontext, redirect_stderr, redirect_stdout

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from mre_jax import cli
from mre_jax.commands import train as train_command
from mre_jax.data.records.record_source import RecordSource
from mre_jax.errors import ConfigError
from mre_jax.io.growing_file import rows_so_far
from mre_jax.training import train as train_module
from mre_jax.training.checkpoints import folder as checkpoint_folder
from mre_jax.training.config import load_config
from mre_jax.training.parallel import make_mesh
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.step import Metrics
from tests.data.cached import cache_toy
from tests.data.prepared import prepare_toy, write_toy
from tests.data.shards import write_set
from tests.training.attempts import exit_reason
from tests.training.figures import Figures
from tests.training.train_files import STEPS, train, write_config
from tests.weights import tiny


def use_one_device(patch):
    """A program for one device compiles in half the time."""
    patch.setattr(train_module, "make_mesh", lambda mesh: make_mesh(mesh, jax.devices()[:1]))


def make_cheap_step(*args):
    """In place of `make_step`: counts, and compiles at once."""

    @jax.jit
    def step(state, frozen, batch):
        del frozen, batch
        metrics = Metrics(*(jnp.float32(1) for _ in range(4)), state["skipped"], *BINS)
        return {**state, "step": state["step"] + 1}, metrics

    return step


BINS = [*(np.ones(size, np.float32) for size in (4, 4, 6, 6)), np.ones(8, bool)]


def make_skipping_step(*args):
    """In place of `compiled_step`: the fourth example of steps 2 and 5 is not finite."""
    cheap = make_cheap_step()

    def step(state, frozen, batch):
        bad = int(state["step"]) + 1 in (2, 5)
        state, metrics = cheap(state, frozen, batch)
        finite = jnp.arange(8) != 3 if bad else jnp.ones(8, bool)
        return state, metrics._replace(skipped=jnp.int32(bad), finite=finite)

    return step


def make_oversized_step(*args):
    """In place of `make_step`: sorts more memory than any machine has."""

    def step(state, frozen, batch):
        del frozen
        large = jnp.broadcast_to(batch.scores[:, :1], (8, 1 << 43))
        return state, jnp.sort(large, axis=0).sum(1)

    return jax.jit(step)


def interrupt(*args):
    """In place of `make_step`."""
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def files(editor, shards):
    return {"editor": editor, "shards": shards}


@pytest.fixture
def config(tmp_path, files):
    return write_config(tmp_path / "config.yaml", **files)


@pytest.fixture(scope="module")
def attempts(tmp_path_factory, files):
    """One run in three attempts: to step 4, on to the end, and once more. Its step is cheap."""
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder / "config.yaml", **files)
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stderr(io.StringIO()) as told,
        redirect_stdout(io.StringIO()) as printed,
    ):
        patch.setattr(train_module, "make_step", make_cheap_step)
        codes = [train(config, folder / "run", *more) for more in (("steps=4",), (), ())]
    return RunDirectory(folder / "run"), codes, told.getvalue(), printed.getvalue()


class TestRun:
    """What `attempts` leave."""

    def test_it_ends_well_each_time(self, attempts):
        run, codes, *_ = attempts
        assert codes == [0, 0, 0]
        assert exit_reason(run.events()) == "done (exit code 0)"

    def test_every_step_is_logged_once(self, attempts):
        rows = rows_so_far(attempts[0].metrics)
        assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
        assert all(np.isfinite(row["loss"]) for row in rows)

    def test_it_went_on_where_it_was(self, attempts):
        events = attempts[0].events()
        restored = [row["step"] for row in events if row["event"] == "restore_done"]
        assert restored == [4, STEPS]
        first = [row["step"] for row in events if row["event"] == "first_step"]
        assert first == [1, 5]

    def test_the_directory_explains_it(self, attempts):
        run = attempts[0]
        identity = run.identity()
        assert identity.config.steps == STEPS
        assert len(identity.data) == 1
        assert identity.init
        assert [a["attempt"] for a in run.attempts()] == [1, 2, 3]
        assert "steps was 4 and is 6" in run.attempts()[1]["changes"]
        saved = yaml.safe_load((run.path / "config.yaml").read_text())
        assert saved["data"]["batch_size"] == 8

    def test_checkpoints_are_kept_as_configured(self, attempts):
        kept = sorted(int(path.name) for path in attempts[0].checkpoints.iterdir())
        assert kept == [4, STEPS]

    def test_the_account_of_its_time_is_told_and_kept(self, attempts):
        run, _, _, told = attempts
        lines = [line for line in told.splitlines() if "% productive" in line]
        assert [line.partition(",")[2].split(":")[0] for line in lines] == [
            f" {count} restarts" for count in range(3)
        ]
        assert all(line.startswith(f"{run.path}: ") for line in lines)
        accounts = [row["goodput"] for row in run.events() if row["event"] == "stop"]
        assert [account["restarts"] for account in accounts] == [0, 1, 2]

    def test_its_steps_are_told_line_by_line(self, attempts):
        steps = [line for line in attempts[2].splitlines() if line.startswith("step ")]
        assert len(steps) == STEPS
        assert steps[-1].startswith(f"step {STEPS}/{STEPS}: loss 1.0000, ")

    def test_texts_that_are_cut_are_told_of_in_one_line(self, attempts):
        lines = [line for line in attempts[2].splitlines() if line.startswith("warning: ")]
        told = [line for line in lines if "reward texts, 16 tokens fit" in line]
        assert len(told) == 2, "one for each attempt that read texts"
        assert "quality 100.0 % cut, 87.5 % lost" in told[0]


REFUSED = {
    "a batch that does not divide": (
        ["data.batch_size=12"],
        78,
        "data.batch_size=12 does not divide over 8 devices; 8 would",
    ),
    "parts that do not divide": (
        ["data.batch_size=16", "optimizer.accumulation=4"],
        78,
        "data.batch_size=16 does not divide over 8 devices x 4 accumulated parts; 32 would",
    ),
    "a mesh that does not fit": (["mesh.fsdp=3"], 78, "mesh.fsdp=3 does not divide the 8 devices"),
    "a mesh of other sizes": (
        ["mesh.data=2"],
        78,
        "mesh.data=2 x mesh.fsdp=1 is not the 8 devices",
    ),
    "a key that does not exist": (
        ["optimizer.learning_rat=1"],
        78,
        "optimizer.learning_rat; did you mean optimizer.learning_rate?",
    ),
    "a value of another type": (
        ["steps=many"],
        78,
        "steps='many' must be a whole number",
    ),
    "a value out of range": (["loss.dropout=0.5"], 78, "loss.dropout=0.5 must be in 0 to 1/3"),
    "a warm-up longer than the run": (
        ["optimizer.warmup_steps=9"],
        78,
        "optimizer.warmup_steps=9 must be below steps=6",
    ),
    "a resolution without latents": (
        ["data.resolution=17"],
        78,
        "data.resolution=17 must be a multiple of 2",
    ),
    "a UNet that cannot read an original": (
        ["model.in_channels=12"],
        78,
        "model.in_channels=12 must be 8",
    ),
    "a set that is not there": (["data.paths=[nowhere]"], 65, "nowhere"),
    "a model that is not there": (["model.init_from=nowhere"], 65, "nowhere"),
    "a cache that is not there": (["data.cache=required"], 78, "no cache in it"),
    "a list of edits that is not there": (
        ["validation.every=2", "validation.items=nowhere.jsonl"],
        65,
        "nowhere.jsonl",
    ),
}


@pytest.fixture(scope="module")
def loaded():
    """The networks of `never_compiles`, by model."""
    return {}


@pytest.fixture
def never_compiles(monkeypatch, loaded):
    """Fails where a step is made. The networks, which nobody uses, are loaded once."""
    load = train_module.load_start

    def load_once(config, *args):
        key = config.model.init_from, config.model.in_channels
        if key not in loaded:
            loaded[key] = load(config, *args)
        return loaded[key]

    def make_step(*args):
        pytest.fail("the step was made although the configuration is wrong")

    monkeypatch.setattr(train_module, "load_start", load_once)
    monkeypatch.setattr(train_module, "make_step", make_step)


def refused(capsys, code, message, *arguments):
    """One line on stderr, and the exit code that supervisors read."""
    assert train(*arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mre train: ")
    assert message in lines[0]


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_named_before_anything_compiles(
    case, config, tmp_path, capsys, never_compiles
):
    settings, code, message = REFUSED[case]
    refused(capsys, code, message, config, tmp_path / "run", *settings)


def test_a_disk_that_is_too_small(config, tmp_path, capsys, monkeypatch, never_compiles):
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(checkpoint_folder.shutil, "disk_usage", lambda path: usage)
    message = "make room, or lower checkpoint.keep"
    refused(capsys, 78, message, config, tmp_path / "run")


@pytest.fixture(scope="module")
def bare(toy, tmp_path_factory):
    """The toy world's edits without their rewards."""
    out = tmp_path_factory.mktemp("bare") / "shards"
    assert cli.main(["prepare", "instruct_pix2pix", str(toy / "triplets"), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ([], "model.reward"),
        (["model.reward=null", "loss.score_weighting=linear"], "loss.score_weighting"),
        (["model.reward=null", "data.min_score=4"], "data.min_score"),
    ],
)
def test_a_set_without_rewards_for_what_needs_them(
    bare, tmp_path, editor, capsys, never_compiles, settings, key
):
    config = write_config(tmp_path / "config.yaml", editor, bare)
    message = f"no rewards in it, and {key} asks for them"
    refused(capsys, 65, message, config, tmp_path / "run", *settings)


@pytest.fixture(scope="module")
def judged_in_part(shards, tmp_path_factory):
    """A set of an earlier version, without an index; its first record and others have no reward."""
    examples = [RecordSource(shards)[number] for number in range(24)]
    unjudged = [dataclasses.replace(t, scores=None, texts=None) for t in examples[:5]]
    return write_set(tmp_path_factory.mktemp("part") / "shards", unjudged + examples[5:], 1)


def test_a_set_that_is_judged_in_part_is_trained_on_with_any_other(
    judged_in_part, bare, shards, tmp_path, editor, capsys, monkeypatch
):
    monkeypatch.setattr(train_module, "make_step", interrupt)
    for number, (sets, told) in enumerate(
        [
            ([judged_in_part], "24 examples, 19 of them with a reward"),
            ([bare, shards], "48 examples, 24 of them with a reward"),
        ]
    ):
        config = write_config(tmp_path / "config.yaml", editor, sets[0])
        paths = f"data.paths=[{','.join(map(str, sets))}]"
        run = tmp_path / str(number)
        assert train(config, run, paths) == 130
        assert f"{run}: {told}\n" in capsys.readouterr().out


def test_a_unet_of_more_channels(editor, shards, tmp_path, capsys, never_compiles):
    wide = tmp_path / "wide"
    shutil.copytree(editor, wide)
    tiny.make_unet(
        in_channels=12,
        block_out_channels=[32],
        down_block_types=["CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D"],
    ).save_pretrained(wide / "unet")
    capsys.readouterr()
    config = write_config(tmp_path / "config.yaml", wide, shards)
    refused(capsys, 78, "takes 12 input channels", config, tmp_path / "run")


def test_a_cache_of_other_weights(editor, shards, tmp_path, capsys, never_compiles):
    cached = cache_toy(shards, editor, tmp_path / "cached", "--resolution", "16")
    other = tmp_path / "other"
    shutil.copytree(editor, other)
    vae = tiny.make_vae()
    for parameter in vae.parameters():
        parameter.data.mul_(1.5)
    vae.save_pretrained(other / "vae")
    capsys.readouterr()
    config = write_config(tmp_path / "config.yaml", other, cached)
    refused(capsys, 78, "its cache was made by another VAE", config, tmp_path / "run")


@pytest.fixture(scope="module")
def begun(tmp_path_factory, files):
    """The directory of a run with a checkpoint; not to be changed."""
    folder = tmp_path_factory.mktemp("begun")
    config = write_config(folder / "config.yaml", **files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "make_step", make_cheap_step)
        assert train(config, folder / "run", "steps=2") == 0
    return folder / "run"


def test_a_batch_that_is_too_large_is_a_bad_setting(config, tmp_path, capsys, monkeypatch):
    """Not a crash that a supervisor tries again; and it is known before a batch is read."""
    monkeypatch.setattr(train_module.Loader, "batches", None)
    monkeypatch.setattr(train_module, "make_step", make_oversized_step)
    run = tmp_path / "run"
    assert train(config, run) == 78
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("mre train: out of memory: ")
    for remedy in ("data.batch_size", "optimizer.accumulation", "model.remat", "mesh.fsdp"):
        assert remedy in last
    assert exit_reason(RunDirectory(run).events()).startswith("out of memory")
    assert RunDirectory(run).events()[-1]["exit_code"] == 78


def test_a_run_that_never_saved_takes_its_correction(config, tmp_path, monkeypatch):
    """As a smaller batch after running out of memory."""
    monkeypatch.setattr(train_module, "make_step", interrupt)
    run = tmp_path / "run"
    assert train(config, run, "data.batch_size=16") == 130
    assert train(config, run) == 130
    assert RunDirectory(run).attempts()[1]["changes"] == ["data.batch_size was 16 and is 8"]


def test_what_may_hang_on_one_host_is_watched(config, tmp_path, monkeypatch):
    watched = []

    def watch(what, seconds, first_seconds=0.0):
        watched.append((what, seconds, first_seconds))
        return nullcontext()

    monkeypatch.setattr(train_module, "watched", watch)
    monkeypatch.setattr(train_module, "make_step", interrupt)
    assert train(config, tmp_path / "run") == 130
    assert watched == [
        ("comparing the workers' directories", 0, 7200),
        ("loading the weights", 0, 7200),
        ("restoring the newest checkpoint", 0, 7200),
        ("compiling the step", 0, 7200),
    ]


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("no such host"), 70), (ConfigError("JAX_PROCESS_ID"), 78)]
)
def test_a_failure_to_join_has_an_exit_code_of_its_own(
    config, tmp_path, capsys, monkeypatch, error, code
):
    def start_distributed():
        raise error

    monkeypatch.setattr(train_command, "start_distributed", start_distributed)
    command = ["train", str(config), "--run", str(tmp_path / "run")]
    if code == 70:
        with pytest.raises(SystemExit) as raised:
            cli.main(command)
        assert raised.value.code == 70
    else:
        assert cli.main(command) == 78
    assert str(error) in capsys.readouterr().err


class TestResumeAsAnother:
    """A run that was begun is gone on with as it is, or not at all."""

    def test_r15_each_changed_key_is_named(self, begun, config, capsys, never_compiles):
        figures = Figures("R15")
        changes = [
            *("optimizer.learning_rate=1e-4", "loss.dropout=0.1", "seed=1", "data.batch_size=16"),
            *("data.flip=0", "model.ema_decay=0.5", "model.compute_dtype=bfloat16"),
        ]
        for change in changes:
            key = change.partition("=")[0]
            refused(capsys, 78, f"{key} was ", config, begun, change)
        figures.report(f"`mre train` with a changed key: refused {len(changes)}/{len(changes)}")

    def test_other_data(self, begun, editor, tmp_path, capsys, never_compiles):
        other = prepare_toy(write_toy(tmp_path / "toy", 16), tmp_path / "others")
        capsys.readouterr()
        config = write_config(tmp_path / "other.yaml", editor, other)
        refused(capsys, 78, "content of data.paths was ", config, begun)

    def test_other_weights(self, begun, editor, shards, tmp_path, capsys, never_compiles):
        other = tmp_path / "other"
        shutil.copytree(editor, other)
        tiny.make_unet(
            block_out_channels=[32],
            down_block_types=["CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D"],
        ).half().float().save_pretrained(other / "unet")
        capsys.readouterr()
        config = write_config(tmp_path / "other.yaml", other, shards)
        refused(capsys, 78, "content of model.init_from was ", config, begun)

    def test_without_a_record_the_checkpoint_tells(
        self, begun, config, tmp_path, capsys, never_compiles
    ):
        run = tmp_path / "run"
        shutil.copytree(begun, run)
        (run / "run.json").unlink()
        refused(capsys, 78, "hash of the configuration was ", config, run, "seed=1")
        assert not (run / "run.json").exists()

    def test_checkpoints_that_are_gone(self, begun, config, tmp_path, capsys, never_compiles):
        run = tmp_path / "run"
        shutil.copytree(begun, run)
        shutil.rmtree(run / "checkpoints" / "2")
        before = (run / "metrics.jsonl").read_bytes()
        message = "no checkpoint in it, and events.jsonl has step 2; not starting from scratch"
        refused(capsys, 65, message, config, run)
        assert (run / "metrics.jsonl").read_bytes() == before

    def test_a_smaller_slice_needs_no_flag_and_waives_no_check(
        self, begun, config, tmp_path, capsys, monkeypatch
    ):
        """The same batch on one device in parts, with less memory."""
        monkeypatch.setattr(train_module, "make_step", interrupt)
        use_one_device(monkeypatch)
        run = tmp_path / "run"
        shutil.copytree(begun, run)
        smaller = ["optimizer.accumulation=4", "model.remat=true", "model.attention=plain"]
        assert train(config, run, *smaller) == 130
        capsys.readouterr()
        message = "begun with other settings: data.batch_size was 8 and is 16; set it back"
        refused(capsys, 78, message, config, run, *smaller, "data.batch_size=16")

    def test_what_changes_no_step_may_change(self, begun, config, tmp_path, monkeypatch):
        monkeypatch.setattr(train_module, "make_step", interrupt)
        run = tmp_path / "run"
        shutil.copytree(begun, run)
        free = ["steps=9", "checkpoint.keep=1", "log.every=5", "data.threads=2", "mesh.fsdp=2"]
        assert train(config, run, *free) == 130
        assert train(config, run, "seed=1", "--allow-config-change") == 130
        assert "seed was 0 and is 1" in RunDirectory(run).attempts()[-1]["changes"]


class TestSkippedSteps:
    """A run that skipped steps is done, says which examples it lost, and says so every time."""

    @pytest.fixture(scope="class")
    @classmethod
    def skipping(cls, tmp_path_factory, files):
        folder = tmp_path_factory.mktemp("skipping")
        config = write_config(folder / "config.yaml", **files)
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stderr(io.StringIO()) as told,
            redirect_stdout(io.StringIO()),
        ):
            patch.setattr(train_module, "compiled_step", make_skipping_step)
            code = train(config, folder / "run")
        return config, folder / "run", code, told.getvalue().splitlines()

    def test_a_script_notices(self, skipping):
        _, run, code, told = skipping
        assert code == 65
        assert told[-1].startswith(f"mre train: {run}: done and saved, but 2 of 6 steps were skip")
        assert "set guard.max_skipped (now 0.001)" in told[-1]
        assert RunDirectory(run).checkpoints.joinpath("6").exists()

    def test_the_directory_says_so(self, skipping):
        run = RunDirectory(skipping[1])
        assert "done, but 2 of 6 steps were skipped" in exit_reason(run.events())
        stop = run.events()[-1]
        end = run.attempts()[-1]["end"]
        assert (stop["skipped"], stop["exit_code"]) == (end["skipped"], end["exit_code"]) == (2, 65)

    def test_the_examples_are_those_of_the_batch(self, skipping, shards):
        config, run, _, told = skipping
        rows = [row for row in RunDirectory(run).events() if row["event"] == "skipped"]
        loader = train_module.open_data(load_config(config)).training
        for row in rows:
            instruction = loader.batch(row["step"] - 1).instruction[3]
            (name,) = row["examples"]
            example, _, path = name.partition(" of ")
            assert path == str(shards)
            (found,) = (t for t in (loader.sources[0][i] for i in range(24)) if t.id == example)
            assert found.instruction == instruction
            assert f"warning: step {row['step']} is skipped, not finite: {name}" in told

    def test_once_more_it_says_the_same_unless_it_is_accepted(self, skipping, tmp_path, capsys):
        config, begun, *_ = skipping
        run = tmp_path / "run"
        shutil.copytree(begun, run)
        assert train(config, run) == 65
        message = "2 of 6 steps were skipped"
        assert message in capsys.readouterr().err
        for accepted in ("guard.max_skipped=2", "guard.max_skipped=0.34"):
            assert train(config, run, accepted) == 0
            assert capsys.readouterr().err.startswith(f"warning: {run}: {message}")


def test_a_held_out_loss_is_in_the_metrics(config, tmp_path, monkeypatch):
    """Of weights that do not change it is the same at every step, and after a resume."""
    monkeypatch.setattr(train_module, "make_step", make_cheap_step)
    use_one_device(monkeypatch)
    held_out = prepare_toy(write_toy(tmp_path / "toy", 16), tmp_path / "held")
    settings = [f"validation.data=[{held_out}]", "validation.loss_every=3"]
    run = tmp_path / "run"
    assert train(config, run, *settings, "steps=3") == 0
    assert train(config, run, *settings) == 0
    rows = rows_so_far(RunDirectory(run).metrics)
    found = {row["step"]: row["held_out_loss"] for row in rows if "held_out_loss" in row}
    assert found.keys() == {3, 6}
    assert found[3] == found[6] > 0


@pytest.mark.slow
def test_cached_examples_train_as_pictures_do(tmp_path, files, monkeypatch):
    """To the rounding of a float16 cache."""
    use_one_device(monkeypatch)
    cached = cache_toy(
        files["shards"], files["editor"], tmp_path / "cached", "--text", "--resolution", "16"
    )
    losses = []
    for name, shards in (("pictures", files["shards"]), ("cached", cached)):
        config = write_config(tmp_path / f"{name}.yaml", files["editor"], shards)
        assert train(config, tmp_path / name) == 0
        losses.append([row["loss"] for row in rows_so_far(tmp_path / name / "metrics.jsonl")])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_the_command_explains_itself(capsys):
    for option, words in (
        ("--help", ["same command goes on", "78  the configuration is bad", "--keys"]),
        ("--keys", ["data.batch_size  ", "a whole number: required", "log.every  "]),
    ):
        with pytest.raises(SystemExit) as raised:
            cli.main(["train", option])
        assert raised.value.code == 0
        told = capsys.readouterr().out
        assert all(word in told for word in words)


def test_the_command_asks_for_a_run_directory(config, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(["train", str(config)])
    assert raised.value.code == 2
    assert "--run" in capsys.readouterr().err
