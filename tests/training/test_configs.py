import functools
import pathlib

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh

from mre_jax.models.adapted_llama import AdaptedLlama, AdaptedLlamaConfig
from mre_jax.models.bim import BIM, BIMConfig
from mre_jax.models.clip_vision import CLIPPatchEncoder, CLIPVisionConfig
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig
from mre_jax.models.projector import Projector, ProjectorConfig
from mre_jax.models.qformer import QFormer, QFormerConfig
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.training.config import OBJECTIVES, load_config
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import AXES, Layout
from mre_jax.training.state import Network, abstract_state
from mre_jax.training.trained import TrainedNetworks

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.yaml"))
STAGES = [path for path in CONFIGS if "_stage" in path.stem]
ALONE = [path for path in CONFIGS if path not in STAGES]  # the UNet is
SD15 = 859_532_484  # an editor's UNet, as the public checkpoint has it

# What the rows of each table may differ in, beside their names.
VARIED = {
    "table4": {"model.reward.score", "model.reward.text"},
    "table5": {"model.reward.attention", "model.reward.addition"},
    "table8": {"model.reward", "model.init_from", "data.paths"},  # 0.30M: stage 1, on its data
    "table10": {"model.reward.perspectives"},
    "table11": {"data.resolution", "optimizer.accumulation"},
    # Not the paper's: other uses of the same scores.
    "compared": {"model.reward", "data.min_score", "loss.score_weighting"},
}
ROWS = {"table4": 4, "table5": 4, "table8": 3, "table10": 4, "table11": 2, "compared": 2}


def unet_of(config):
    return full_size(UNetConfig(in_channels=config.model.in_channels, reward=config.model.reward))


@functools.lru_cache
def full_size(unet):
    return nnx.eval_shape(lambda: UNet(unet, compute=Compute(), rngs=make_rngs(0)))


def sizes(module):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_file_loads_and_says_what_it_is(path):
    config = load_config(path)
    assert config.name == path.stem
    comment, *_ = path.read_text().splitlines()
    assert comment.startswith("# ") and comment.endswith((".", ","))


@pytest.mark.parametrize("table", sorted(ROWS))
def test_rows_differ_only_in_what_their_table_varies(table):
    paths = [path for path in CONFIGS if path.stem.partition("_")[0] == table]
    assert len(paths) == ROWS[table]
    reference = flat(load_config(CONFIGS[0].parent / "reward_ip2p.yaml").to_dict())
    for path in paths:
        row = flat(load_config(path).to_dict())
        differing = {key for key in reference.keys() | row.keys() if differs(reference, row, key)}
        assert {key for key in differing if key != "name"} <= keys_of(table), path.stem


def test_the_last_row_of_each_table_is_the_papers_method():
    folder = CONFIGS[0].parent
    full = load_config(folder / "reward_ip2p.yaml", ["name=same"])
    for name in ("table4_both", "table5_both", "table8_reward", "table10_all", "table11_256"):
        assert load_config(folder / f"{name}.yaml", ["name=same"]) == full


def test_smartedits_reward_stage_is_that_of_instructpix2pix_on_cached_features():
    folder = CONFIGS[0].parent
    first, second, plain = (
        flat(load_config(folder / f"{name}.yaml").to_dict())
        for name in ("reward_ip2p", "smartedit_reward", "smartedit_plain")
    )
    apart = {key for key in first if differs(first, second, key)}
    assert apart == {"name", "model.init_from", "data.paths", "data.cache", "data.flip"}
    assert (second["data.cache"], second["data.flip"]) == ("required", 0)
    varied = {key for key in second.keys() | plain.keys() if differs(second, plain, key)}
    assert {key for key in varied if not key.startswith("model.reward")} == {"name"}


def test_what_conditioning_is_compared_with_trains_on_the_scores_and_reads_no_reward():
    folder = CONFIGS[0].parent
    filtering = load_config(folder / "compared_filtering.yaml")
    weighting = load_config(folder / "compared_weighting.yaml")
    assert (filtering.data.min_score, filtering.loss.score_weighting) == (4, "none")
    assert (weighting.data.min_score, weighting.loss.score_weighting) == (None, "linear")
    assert not filtering.model.takes_reward and not weighting.model.takes_reward


def test_what_is_called_the_released_codes_is():
    folder = CONFIGS[0].parent
    first, second = (
        load_config(folder / f"{n}.yaml") for n in ("ip2p_sd15", "reward_ip2p_released")
    )
    assert first.data.filter == second.data.filter == "bicubic"
    assert not second.data.none_for_top and second.optimizer.max_grad_norm is None


def test_512_pixels_keep_the_batch():
    config = load_config(CONFIGS[0].parent / "table11_512.yaml")
    small = load_config(CONFIGS[0].parent / "table11_256.yaml")
    assert config.data.batch_size == small.data.batch_size
    parts = config.optimizer.accumulation // small.optimizer.accumulation
    assert parts == (config.data.resolution // small.data.resolution) ** 2


@pytest.mark.slow
def test_the_released_form_is_that_of_the_public_checkpoint():
    config = load_config(CONFIGS[0].parent / "reward_ip2p_released.yaml")
    assert sizes(unet_of(config)) == 864_559_364


@pytest.mark.slow
@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_networks_and_shardings_build_at_full_size(path):
    config = load_config(path)
    unet = unet_of(config)
    reward = config.model.reward
    enabled = reward is not None and reward.enabled
    assert (sizes(unet) > SD15) == enabled
    assert sizes(unet) >= SD15
    optimizer = make_optimizer(config.optimizer, config.steps)
    for shape in ((1, 1), (16, 1), (8, 4)):  # a chip, a small pod, a pod with split parameters
        layout = Layout.of(config.mesh, AbstractMesh(shape, AXES))
        ema = config.model.ema_decay is not None
        state = abstract_state(Network.of(unet).abstract, optimizer, layout, ema=ema)
        leaves = jax.tree.leaves(state)
        # Parameters, their average and two moments, float32.
        whole = sum(4 * int(np.prod(leaf.shape)) for leaf in leaves)
        assert whole == pytest.approx(16 * sizes(unet), rel=1e-6)
        chip = sum(4 * int(np.prod(leaf.sharding.shard_shape(leaf.shape))) for leaf in leaves)
        parts = layout.mesh.size
        assert whole / parts <= chip < 1.05 * whole / parts
        assert config.data.batch_size % (config.optimizer.accumulation * parts) == 0


# What each stage trains of SmartEdit-7B: the official counts.
NEW_ROWS = 2 * 35 * 4096
TRAINED = {
    "smartedit_stage1": 64_955_904 + 59_136 + NEW_ROWS,
    "smartedit_stage2a": SD15 + 64_955_904 + 59_136 + 4_194_304 + NEW_ROWS,
    "smartedit_stage2b": SD15 + 64_955_904 + 59_136 + 4_194_304 + NEW_ROWS + 29_211_200,
}


@pytest.mark.slow
@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_stages_build_at_full_size_with_the_official_counts(path):
    config = load_config(path)
    networks = seven_billion(config)
    optimizer = make_optimizer(config.optimizer, config.steps)
    for shape in ((1, 1), (16, 1), (8, 4)):
        layout = Layout.of(config.mesh, AbstractMesh(shape, AXES))
        state = abstract_state(networks.abstract, optimizer, layout, ema=False)
        leaves = jax.tree.leaves(state)
        whole = sum(4 * int(np.prod(leaf.shape)) for leaf in leaves)
        # Parameters and two moments, float32, of what is trained alone.
        assert whole == pytest.approx(12 * TRAINED[path.stem], rel=1e-6)
        chip = sum(4 * int(np.prod(leaf.sharding.shard_shape(leaf.shape))) for leaf in leaves)
        parts = layout.mesh.size
        assert whole / parts <= chip < 1.05 * whole / parts
        assert config.data.batch_size % (config.optimizer.accumulation * parts) == 0
        # The frozen language model is split over fsdp.
        frozen = [networks.networks["llm"].abstract[n] for n in networks.frozen_names("llm")]
        total = sum(int(np.prod(leaf.shape)) for leaf in frozen)
        held = sum(int(np.prod(layout.compute(x).shard_shape(x.shape))) for x in frozen)
        assert total == 6_738_415_616 + 2 * 35 * 4096 + (
            0 if "adapters" in config.model.trained else 4_194_304
        )
        assert held < 1.01 * total / shape[1]


def seven_billion(config):
    made = {
        "unet": (UNet, UNetConfig(in_channels=8)),
        "llm": (AdaptedLlama, AdaptedLlamaConfig(LlamaConfig(vocab_size=32035), LoRAConfig())),
        "vision": (CLIPPatchEncoder, CLIPVisionConfig()),
        "projector": (Projector, ProjectorConfig()),
        "qformer": (QFormer, QFormerConfig()),
        "bim": (BIM, BIMConfig()),
    }
    networks = {
        name: Network.of(abstract(*made[name])) for name in OBJECTIVES[config.loss.objective]
    }
    return TrainedNetworks(networks, config.model.trained, 35)


@functools.lru_cache
def abstract(network, sizes):
    return nnx.eval_shape(lambda: network(sizes, compute=Compute(), rngs=make_rngs(0)))


def keys_of(table):
    parts = {f"model.reward.{name}" for name in ("form", "score", "text", "attention", "addition")}
    parts |= {f"model.reward.{n}" for n in ("perspectives", "score_width", "num_attention_heads")}
    return VARIED[table] | (parts if "model.reward" in VARIED[table] else set())


def flat(mapping, prefix=""):
    found = {}
    for key, value in mapping.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        found |= inner
    return found


def differs(one, two, key):
    return one.get(key) != two.get(key)
