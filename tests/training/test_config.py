import dataclasses
import re
import typing
from typing import Literal

import pytest

from mre_jax.data.batches.augment import FILTERS, FITS
from mre_jax.data.cache.description import MODES
from mre_jax.diffusion.schedule import PREDICTION_TYPES
from mre_jax.errors import ConfigError
from mre_jax.reward.text import CUTS
from mre_jax.training.config import (
    DataConfig,
    LossConfig,
    OptimizerConfig,
    TrainConfig,
    load_config,
)
from mre_jax.training.settings import describe, keys

SMALL = """
name: small
steps: 4
model: {init_from: models/tiny}
data: {paths: [shards], batch_size: 4}
"""

OUT_OF_RANGE = [
    "model.trained=[unet,vae]",
    "model.trained=[llm,adapters]",
    "data.template_by=seed",
    "data.text_tokens=0",
    "loss.objective=everything",
    "loss.language_weight=-1",
    "name=''",
    "steps=0",
    "seed=-1",
    "model.init_from=''",
    "model.base=''",
    "model.in_channels=0",
    "model.compute_dtype=float16",
    "model.attention=fast",
    "model.ema_decay=1",
    "model.reward.form=other",
    "model.reward.perspectives=[]",
    "data.paths=[]",
    "data.batch_size=0",
    "data.weights=[1,2]",
    "data.weights=[0]",
    "data.resolution=0",
    "data.resize=100",
    "data.filter=nearest",
    "data.fit=pad",
    "data.flip=1.5",
    "data.min_score=6",
    "data.reward_cut=middle",
    "data.cache=yes please",
    "data.threads=0",
    "data.workers=-1",
    "data.ahead=0",
    "data.requests=-1",
    "loss.dropout=0.4",
    "loss.dropout=.nan",
    "loss.reward_dropout=-0.1",
    "loss.prediction_type=noise",
    "loss.score_weighting=cubic",
    "loss.min_snr_gamma=0",
    "loss.terms={cubic_error: 1}",
    "loss.terms={squared_error: .nan}",
    "loss.preference.beta=0",
    "loss.preference.margin=6",
    "optimizer.learning_rate=.inf",
    "optimizer.reward_rate_scale=0",
    "optimizer.beta1=1",
    "optimizer.beta2=-1",
    "optimizer.epsilon=0",
    "optimizer.weight_decay=-1",
    "optimizer.max_grad_norm=0",
    "optimizer.schedule=step",
    "optimizer.warmup_steps=-1",
    "optimizer.warmup_steps=1000000",
    "optimizer.accumulation=0",
    "optimizer.accumulation=3",
    "mesh.data=0",
    "mesh.fsdp=0",
    "checkpoint.every=0",
    "checkpoint.keep=0",
    "checkpoint.keep_every=0",
    "checkpoint.pinned=[-1]",
    "validation.every=-1",
    "validation.examples=0",
    "validation.loss_every=-1",
    "validation.count=0",
    "validation.steps=0",
    "validation.guidance_scale=0.5",
    "validation.image_guidance_scale=.nan",
    "log.every=0",
    "log.profile_at=0",
    "log.profile_at=1000000",
    "log.profile_steps=0",
    "guard.non_finite_limit=0",
    "guard.max_skipped=-1",
    "guard.compare_replicas_every=-1",
    "guard.watchdog_seconds=-1",
]


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def refused(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_the_papers_recipe(small):
    config = load_config(small)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay) == (5e-5, 1e-2)
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.999, 1e-8)
    assert (optimizer.schedule, optimizer.warmup_steps, optimizer.max_grad_norm) == (
        "constant",
        0,
        1.0,
    )
    assert (config.data.resolution, config.loss.dropout) == (256, 0.05)
    assert config.model.reward is None


def test_override_wins_over_file_and_file_over_base(tmp_path, small):
    child = tmp_path / "more" / "child.yaml"
    child.parent.mkdir()
    child.write_text("base: ../small.yaml\nsteps: 5\ndata: {flip: 0.25}\n")
    config = load_config(child, ["steps=6"])
    assert (config.steps, config.data.flip, config.data.batch_size) == (6, 0.25, 4)
    assert config.data.paths == ("shards",)


def test_a_base_that_leads_back_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: ../" + tmp_path.name + "/a.yaml\n")
    assert "leads back" in refused(tmp_path / "a.yaml")


def test_values_are_yaml(small):
    config = load_config(
        small,
        [
            "optimizer.learning_rate=1e-4",
            "data.paths=[a, gs://bucket/b]",
            "data.weights=[1, 2.5]",
            "model.init_from=a=b",
            "log.tensorboard=false",
            "model.ema_decay=null",
            "validation.items=null",
        ],
    )
    assert config.optimizer.learning_rate == 1e-4
    assert config.data.paths == ("a", "gs://bucket/b")
    assert config.data.weights == (1.0, 2.5)
    assert config.model.init_from == "a=b"
    assert config.log.tensorboard is False and config.model.ema_decay is None


def test_a_reward_can_be_switched_on_in_part_and_off(small):
    config = load_config(small, ["model.reward.text=false", "model.reward.form=released"])
    assert config.model.reward.form == "released"
    assert not config.model.reward.text and config.model.reward.score
    assert load_config(small, ["model.reward={}"]).model.reward.form == "paper"
    assert load_config(small, ["model.reward.text=false", "model.reward=null"]).model.reward is None


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("data.batchsize=8", "data.batch_size"),
        ("batch_size=8", "data.batch_size"),
        ("lr_rate=1", "learning_rate"),
        ("model.rewards.form=paper", "model.reward"),
        ("model.reward.perspective=[quality]", "model.reward.perspectives"),
        ("step=8", "steps"),
    ],
)
def test_unknown_key_is_named_with_the_nearest(small, wrong, meant):
    message = refused(small, wrong)
    assert f"no setting {wrong.partition('=')[0].removesuffix('.form')}" in message
    assert meant in message.rpartition(";")[2]


def test_unknown_key_of_a_file_names_the_file(small):
    small.write_text(SMALL + "optimiser: {}\n")
    assert refused(small).startswith(f"{small}: there is no setting optimiser; did you mean opti")


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("data.batch_size=many", "a whole number"),
        ("data.batch_size=2.5", "a whole number"),
        ("data.batch_size=null", "a whole number"),
        ("data.flip=true", "a number"),
        ("data.paths=shards", "a list of texts"),
        ("data.weights=[true]", "a list of numbers or null"),
        ("model.remat=perhaps", "true or false"),
        ("model.init_from=", "text"),
        ("data=4", "a section"),
        ("data=null", "a section"),
        ("model.reward=paper", "a section"),
    ],
)
def test_wrong_type_names_key_and_type(small, override, wanted):
    message = refused(small, override)
    assert message.startswith(f"command line: {override.partition('=')[0]}=")
    assert wanted in message


@pytest.mark.parametrize("override", OUT_OF_RANGE)
def test_out_of_range_names_the_key(small, override):
    assert override.partition("=")[0] in refused(small, override)


def test_every_key_but_switches_is_tried_out_of_range():
    tried = {override.partition("=")[0] for override in OUT_OF_RANGE}
    untried = set(keys(TrainConfig)) - tried
    switches = {key for key in untried if _hint(key) is bool}
    assert untried - switches == {
        "model.reward.score_width",  # checked against the UNet, with the heads
        "model.reward.num_attention_heads",
        "data.templates",  # read when the run begins
        "validation.items",  # needed or not by validation.every
        "validation.data",  # likewise by validation.loss_every
    }


def test_the_length_of_a_run_bounds_what_happens_in_it(small):
    assert "optimizer.warmup_steps=4 must be below steps=4" in refused(
        small, "steps=4", "optimizer.warmup_steps=4"
    )
    assert "log.profile_at=5 must be at most steps=4" in refused(
        small, "steps=4", "log.profile_at=5"
    )
    last = load_config(small, ["steps=4", "optimizer.warmup_steps=3", "log.profile_at=4"])
    assert (last.optimizer.warmup_steps, last.log.profile_at) == (3, 4)


def test_every_key_has_a_type_and_a_default_in_words():
    rows = {key: (kind, default) for key, kind, default in describe(TrainConfig)}
    assert list(rows) == keys(TrainConfig)
    assert rows["steps"] == ("a whole number", "required")
    assert rows["data.weights"] == ("a list of numbers or null", "null")
    assert rows["log.tensorboard"] == ("true or false", "true")
    assert rows["model.reward.form"] == ("text", '"paper"')
    assert rows["checkpoint.pinned"] == ("a list of whole numbers", "[]")


def test_choices_are_those_of_the_rooms_that_make_them():
    for section, name, choices in (
        (DataConfig, "fit", FITS),
        (DataConfig, "filter", FILTERS),
        (DataConfig, "cache", MODES),
        (DataConfig, "reward_cut", CUTS),
        (LossConfig, "prediction_type", PREDICTION_TYPES),
    ):
        hint = typing.get_type_hints(section)[name]
        literals = [c for c in (hint, *typing.get_args(hint)) if typing.get_origin(c) is Literal]
        assert set(typing.get_args(literals[0])) == set(choices)


def test_a_section_made_in_python_is_checked_as_one_of_a_file():
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        DataConfig(paths=("shards",), batch_size=0)
    config = OptimizerConfig()
    with pytest.raises(ValueError, match="less than 1"):
        dataclasses.replace(config, beta1=1.5)


def test_validation_without_pictures_is_refused(small):
    assert "validation.items" in refused(small, "validation.every=10")
    assert "validation.data" in refused(small, "validation.loss_every=10")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: x\n", "lacks steps"),
        (SMALL.replace("init_from: models/tiny", "remat: true"), "lacks model.init_from"),
        (SMALL.replace("model: {init_from: models/tiny}\n", ""), "lacks model.init_from"),
        ("name: [\n", "line 2"),
        ("- a\n", "key: value"),
        (SMALL + "steps: 5\n", "duplicate"),
        (SMALL + "base: 3\n", "base=3"),
        (SMALL + "log: {every: '${nothing}'}\n", "nothing"),
    ],
)
def test_a_file_that_is_no_configuration(small, text, part):
    small.write_text(text)
    message = refused(small)
    assert str(small) in message and part in message


def test_a_file_that_is_not_there(tmp_path):
    assert "none.yaml does not exist" in refused(tmp_path / "none.yaml")
    assert str(tmp_path) in refused(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not text" in refused(tmp_path / "bytes.yaml")


@pytest.mark.parametrize("argument", ["steps", "=5", "steps=[1"])
def test_an_argument_that_is_no_setting(small, argument):
    assert argument in refused(small, argument)


def test_nothing_in_a_file_is_executed(small, tmp_path):
    target = tmp_path / "made"
    small.write_text(SMALL + f"seed: !!python/object/apply:os.mkdir ['{target}']\n")
    refused(small)
    assert not target.exists()


def test_saved_and_loaded_again_is_equal(small, tmp_path):
    config = load_config(small, ["model.reward.perspectives=[quality]", "checkpoint.pinned=[3]"])
    config.save(tmp_path / "resolved.yaml")
    assert load_config(tmp_path / "resolved.yaml") == config
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert hash(config) == hash(TrainConfig.from_dict(config.to_dict()))


def test_hash_sees_every_setting_and_nothing_else(small):
    config = load_config(small)
    hashes = {config.hash, load_config(small, ["steps=4"]).hash}
    assert len(hashes) == 1
    for override in ("seed=1", "model.reward={}", "data.paths=[other]", "log.every=11"):
        hashes.add(load_config(small, [override]).hash)
    assert len(hashes) == 5


def test_settings_that_came_later_leave_the_hash_of_runs_before_them(tmp_path):
    """A run whose run.json is lost is told by the hash in its checkpoints."""
    before = "06ec353bdd41719f70b0fd4b49dbed6527692d86e74b1e655178ae8a25baf018"
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    assert load_config(path).hash == before
    for override in ("model.base=m", "data.fit=crop", "guard.max_skipped=0"):
        assert load_config(path, [override]).hash != before


def test_from_dict_names_its_origin(small):
    mapping = load_config(small).to_dict() | {"colour": 1}
    with pytest.raises(ConfigError, match=r"run\.json: there is no setting colour"):
        TrainConfig.from_dict(mapping, "run.json")


def _hint(key):
    schema = TrainConfig
    for part in key.split("."):
        hint = typing.get_type_hints(schema)[part]
        schema = next((c for c in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(c)), 0)
    return hint


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["model.trained=[unet,bim]"], "model.trained=['unet', 'bim'] must be of what"),
        (["loss.objective=captions"], "model.trained=['unet'] must be of what"),
        (
            ["loss.objective=captions", "model.trained=[vision]"],
            "loss.objective=captions trains, qformer, adapters, new_tokens, llm",
        ),
        (
            ["loss.objective=instructions", "model.trained=[vision,qformer]"],
            "loss.objective=instructions wants data.flip=0",
        ),
        (
            ["loss.objective=replies_and_edits"],
            "loss.objective=replies_and_edits wants data.flip=0",
        ),
        (
            ["loss.objective=replies_and_edits", "data.flip=0", "data.resize=512"],
            "objective=replies_and_edits wants data.resize=null",
        ),
    ],
)
def test_an_objective_refuses_what_it_cannot_do(small, overrides, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_config(small, overrides)
