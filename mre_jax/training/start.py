"""What a run starts from: the pretrained networks, and the data that fits them."""

import dataclasses
import warnings
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mre_jax.data.cache.description import EncoderHashes
from mre_jax.data.cache.encoders import hashes_of
from mre_jax.diffusion.native_sampler import native_sampler
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import ConfigError
from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.layers import Compute
from mre_jax.models.unet_config import UNetConfig
from mre_jax.models.vae import VAEConfig
from mre_jax.reward.config import RewardConfig
from mre_jax.training.config import ModelConfig, TrainConfig
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.network import Network, Parameters, parameters_of
from mre_jax.training.parallel import Layout
from mre_jax.weights.checkpoint import (
    REWARD_CLASS,
    Checkpoint,
    Component,
    changed,
    checkpoint_at,
    expanded,
)
from mre_jax.weights.digest import checkpoint_hash
from mre_jax.weights.files.folder import COMPONENTS
from mre_jax.weights.fresh_reward import WithFreshReward
from mre_jax.weights.names.expand import ChannelsError
from mre_jax.weights.names.rule import load
from mre_jax.weights.surroundings import scheduler_config
from mre_jax.weights.tokens import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """The networks of a run before its first step.

    Attributes:
        unet_config: of what is trained.
        downscale: pixels per latent along each side.
        unet: what is trained, but for its arrays.
        params: its arrays, float32, where `layout.storage` puts them.
        encoders, frozen: the networks that are not trained.
        schedule: of the noise, with the prediction type that is trained.
        tokenizer: of the checkpoint.
        hashes: of the encoders, to compare with those of a cache.
        weights: hash of all initial weights.
    """

    unet_config: UNetConfig
    downscale: int
    unet: Network
    params: Parameters
    encoders: Encoders
    frozen: Frozen
    schedule: NoiseSchedule
    tokenizer: Tokenizer
    hashes: EncoderHashes
    weights: str


@dataclasses.dataclass(frozen=True)
class Needs:
    """Which encoders a run asks during its steps; cached examples need fewer.

    Attributes:
        vae: for pictures.
        text_encoder: for instructions and reward texts.
    """

    vae: bool = True
    text_encoder: bool = True


def load_start(config: TrainConfig, layout: Layout, needs: Needs) -> Start:
    """Loads the networks that `config.model.init_from` names.

    The encoders' arrays are kept in the compute dtype, a copy on every device.

    Raises:
        ConfigError: if the checkpoint's reward condition is another than the configuration's, or
            its UNet takes more channels, or it is of another kind, as flow matching.
        DataError: if the checkpoint is incomplete or damaged.
    """
    with checkpoint_at(
        config.model.init_from, base=config.model.base, components=COMPONENTS
    ) as stored:
        vae_config = VAEConfig.from_dict(stored.components["vae"].config)
        _check_channels(config.model.in_channels, vae_config.latent_channels)
        opened = _expanded(stored, config.model.in_channels)
        for note in opened.notes:
            warnings.warn(f"{config.model.init_from}: {note}", stacklevel=2)
        component = unet_component(opened.components["unet"], config.model, config.seed)
        unet = _load_unet(component, config.model, layout)
        vae = _load_encoder(opened.components["vae"], config.model, layout)
        text_encoder = _load_encoder(opened.components["text_encoder"], config.model, layout)
        hashes, weights = hashes_of(stored), checkpoint_hash(stored)
    tokenizer = opened.tokenizer()
    dtype = jnp.dtype(config.model.compute_dtype)
    return Start(
        unet_config=UNetConfig.from_dict(component.config),
        downscale=vae_config.downscale,
        unet=unet[0],
        params=unet[1],
        encoders=Encoders(
            vae[0] if needs.vae else None,
            text_encoder[0] if needs.text_encoder else None,
            vae_config.scaling_factor,
        ),
        frozen=Frozen(
            vae[1] if needs.vae else {},
            text_encoder[1] if needs.text_encoder else {},
            _null_text(text_encoder, tokenizer, layout).astype(dtype),
        ),
        schedule=_schedule(opened.files, config),
        tokenizer=tokenizer,
        hashes=hashes,
        weights=weights,
    )


def unet_component(unet: Component, model: ModelConfig, seed: int) -> Component:
    """The UNet of a checkpoint with the reward condition that a run trains.

    Raises:
        ConfigError: if the checkpoint has another one.
    """
    wanted = model.reward if model.takes_reward else None
    if unet.reward == wanted:
        return unet
    if unet.reward is not None:
        raise ConfigError(
            f"model.reward: {unet.source.origin} has {_described(unet.reward)}, and the "
            f"configuration asks for {_described(wanted)}; take the checkpoint's, or start from a "
            "plain editor"
        )
    assert wanted is not None  # noqa: S101  both None is equal
    entries = {"_class_name": REWARD_CLASS, "reward": wanted.to_dict()}
    made = changed(unet, **entries)
    source = WithFreshReward(unet.source, UNetConfig.from_dict(made.config), seed)
    return dataclasses.replace(made, source=source)


def _expanded(model: Checkpoint, in_channels: int) -> Checkpoint:
    try:
        return expanded(model, in_channels)
    except ChannelsError as error:
        raise ConfigError(
            f"model.in_channels={in_channels}: {error.origin} takes {error.stored} input channels "
            "and cannot be made to take these; start from an editor or a text-to-image model"
        ) from None


def _check_channels(given: int, latents: int) -> None:
    if given != 2 * latents:
        raise ConfigError(
            f"model.in_channels={given} must be {2 * latents}: an editor reads the noisy latents "
            f"and the original's, {latents} channels each"
        )


def compute_of(model: ModelConfig) -> Compute:
    """How the networks of a run compute."""
    return Compute(jnp.dtype(model.compute_dtype), model.attention, model.remat)


def _load_unet(
    component: Component, model: ModelConfig, layout: Layout
) -> tuple[Network, Parameters]:
    module = component.network(compute_of(model))
    loaded = load(module, component.source, placement=lambda _, leaf: layout.storage(leaf))
    return Network.of(module), parameters_of(loaded)


def _load_encoder(
    component: Component, model: ModelConfig, layout: Layout
) -> tuple[Network, Parameters]:
    compute = dataclasses.replace(compute_of(model), remat=False)
    module = component.network(compute)
    loaded = load(module, component.source, dtype=compute.dtype, placement=layout.replicated)
    return Network.of(module), parameters_of(loaded)


def _null_text(
    text_encoder: tuple[Network, Parameters], tokenizer: Tokenizer, layout: Layout
) -> jax.Array:
    network, params = text_encoder

    @jax.jit
    def encode(params: Parameters, ids: jax.Array) -> jax.Array:
        module: CLIPTextModel = network.module(params)
        return module(ids).last_hidden_state[0]

    return jax.device_put(encode(params, tokenizer([""])), layout.replicated)


def _schedule(files: Mapping[str, bytes], config: TrainConfig) -> NoiseSchedule:
    stated = scheduler_config(files, config.model.init_from)
    native_sampler(stated)  # refuses models of another kind
    schedule = NoiseSchedule.from_dict(stated)
    wanted = config.loss.prediction_type
    return schedule if wanted is None else dataclasses.replace(schedule, prediction_type=wanted)


def _described(reward: RewardConfig | None) -> str:
    return "none" if reward is None else str(reward.to_dict())
