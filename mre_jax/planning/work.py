"""What one training step is made of: parameters, what the backward pass keeps, arithmetic.

Counted in the traced program of the network, whose sizes are those of `model.init_from` where it
can be read, and Stable Diffusion 1.5's elsewhere.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from mre_jax.models.clip_text import CLIPTextConfig, CLIPTextModel
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.reward import RewardInputs
from mre_jax.models.unet import UNet
from mre_jax.models.unet_config import UNetConfig
from mre_jax.models.vae import AutoencoderKL, VAEConfig
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.training import flops
from mre_jax.training.config import ModelConfig
from mre_jax.training.state import Network
from mre_jax.weights.files.folder import COMPONENTS
from mre_jax.weights.opening import model_at

_BATCH = 13
"""No width of a network is a multiple of it: an array whose size is one holds the batch."""


class Sizes(NamedTuple):
    """The networks of a run.

    Attributes:
        unet, vae, text: their configurations.
        assumed: what had to be taken for granted; "" if they were read.
    """

    unet: UNetConfig
    vae: VAEConfig
    text: CLIPTextConfig
    assumed: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """Of one example, unless said otherwise.

    Attributes:
        network: the UNet but for its arrays.
        parameters: its number of parameters.
        kept: bytes that the backward pass keeps.
        block: bytes that a block keeps while it is computed anew, with remat; else 0.
        arithmetic: operations forward and backward.
        forward: operations forward.
        encoding: operations of the frozen encoders: of the pictures, of the texts.
        encoders: parameters of the frozen encoders: of the VAE, of the text encoder.
    """

    network: Network
    parameters: int
    kept: int
    block: int
    arithmetic: int
    forward: int
    encoding: tuple[int, int]
    encoders: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class EditWork:
    """Operations of one edit's parts.

    Attributes:
        forward: of the UNet, once.
        encode, decode: of the VAE.
        text: of the text encoder, once.
        parameters: of all networks.
    """

    forward: int
    encode: int
    decode: int
    text: int
    parameters: int


def sizes_of(model: ModelConfig, *, as_stored: bool = False) -> Sizes:
    """The networks that `model.init_from` holds, with the channels and the reward of the run.

    Args:
        as_stored: keep the channels and the reward that it has.

    Example:
        >>> from mre_jax import ModelConfig
        >>> sizes_of(ModelConfig("models/sd15")).assumed
        'models/sd15 is not here: sizes of Stable Diffusion 1.5'
    """
    reward = model.reward if model.takes_reward else None
    if not Path(model.init_from).exists():
        unet = UNetConfig(in_channels=model.in_channels, reward=reward)
        assumed = f"{model.init_from} is not here: sizes of Stable Diffusion 1.5"
        return Sizes(unet, VAEConfig(), CLIPTextConfig(), assumed)
    with model_at(model.init_from, base=model.base, components=COMPONENTS) as opened:
        parts = {name: part.config for name, part in opened.components.items()}
    unet = UNetConfig.from_dict(parts["unet"])
    if not as_stored:
        unet = dataclasses.replace(unet, in_channels=model.in_channels, reward=reward)
    return Sizes(
        unet,
        VAEConfig.from_dict(parts["vae"]),
        CLIPTextConfig.from_dict(parts["text_encoder"]),
    )


def work_of(model: ModelConfig, sizes: Sizes, pixels: int) -> Work:
    """Traces the networks; some seconds at the size of Stable Diffusion.

    Args:
        pixels: side of the pictures.
    """
    compute = Compute(jnp.dtype(model.compute_dtype), model.attention, model.remat)
    return _work(sizes, compute, pixels)


def edit_work(sizes: Sizes, pixels: int) -> EditWork:
    """Traces the networks that an edit goes through.

    Args:
        pixels: side of the picture.
    """
    side = pixels // sizes.vae.downscale
    unet = nnx.eval_shape(lambda: UNet(sizes.unet, compute=Compute(), rngs=make_rngs(0)))
    parameters = sum(math.prod(x.shape) for x in Network.of(unet).abstract.values())
    forward = flops.forward(sizes.unet, side, side, text_tokens=sizes.text.max_position_embeddings)
    (vae, encode), (text, tokens) = _encoders(sizes, pixels)
    plain = Compute(attention="plain")
    whole = nnx.eval_shape(lambda: AutoencoderKL(sizes.vae, compute=plain, rngs=make_rngs(0)))
    latents = jax.ShapeDtypeStruct((1, side, side, sizes.vae.latent_channels), jnp.float32)
    decode = _measured(whole, lambda module, x: module.decode(x), latents)[1]
    return EditWork(forward, encode, decode, tokens, parameters + vae + text)


@functools.lru_cache(maxsize=8)
def _work(sizes: Sizes, compute: Compute, pixels: int) -> Work:
    side = pixels // sizes.vae.downscale
    unet = nnx.eval_shape(lambda: UNet(sizes.unet, compute=compute, rngs=make_rngs(0)))
    network = Network.of(unet)
    loss, params = _loss(network, sizes, compute, side)
    whole = jax.eval_shape(lambda p: jax.vjp(loss, p)[1], params)
    blocks = _blocks(jax.make_jaxpr(loss)(params).jaxpr) if compute.remat else ()
    forward = flops.forward(sizes.unet, side, side, text_tokens=sizes.text.max_position_embeddings)
    texts = 1 + (sizes.unet.reward is not None)
    (vae, images), (text, tokens) = _encoders(sizes, pixels)
    return Work(
        network=network,
        parameters=sum(math.prod(x.shape) for x in network.abstract.values()),
        kept=_of_batch(jax.tree.leaves(whole)),
        block=max(blocks, default=0),
        arithmetic=3 * forward,
        forward=forward,
        encoding=(2 * images, texts * tokens),
        encoders=(vae, text),
    )


def _loss(
    network: Network, sizes: Sizes, compute: Compute, side: int
) -> tuple[Callable[[Any], Any], dict[str, jax.ShapeDtypeStruct]]:
    """The loss of `_BATCH` examples as a function of the parameters, and these, abstract."""
    tokens, width = sizes.text.max_position_embeddings, sizes.unet.cross_attention_dim

    def of(dtype: Any, *shape: int) -> Any:
        return jnp.zeros((_BATCH, *shape), dtype)

    def loss(params: Any) -> Any:
        reward = None
        if sizes.unet.reward is not None:
            states = of(compute.dtype, tokens, width), of(compute.dtype, width)
            reward = RewardInputs(of(jnp.float32, len(PERSPECTIVES)), *states)
        sample = of(jnp.float32, side, side, sizes.unet.in_channels)
        text = of(compute.dtype, tokens, width)
        output = network.module(params)(sample, of(jnp.int32), text, reward)
        return jnp.mean(jnp.square(output.astype(jnp.float32)))

    def copy(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, compute.dtype if len(x.shape) > 1 else jnp.float32)

    return loss, {name: copy(x) for name, x in network.abstract.items()}


def _blocks(jaxpr: Any) -> Iterable[int]:
    """Bytes an example that each rematerialised block keeps while its gradient is computed."""
    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr")
        if equation.primitive.name in ("checkpoint", "remat2", "remat"):
            program = jax.extend.core.ClosedJaxpr(inner, ())
            run = jax.extend.core.jaxpr_as_fun(program)
            inputs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in inner.invars]

            def keep(*arrays: Any, run: Any = run) -> Any:
                return jax.vjp(run, *arrays)[1]

            yield _of_batch(jax.tree.leaves(jax.eval_shape(keep, *inputs)))
        elif inner is not None:
            yield from _blocks(getattr(inner, "jaxpr", inner))


def _of_batch(arrays: Iterable[Any]) -> int:
    """Bytes an example of the arrays that hold the batch."""
    sizes = ((math.prod(x.shape), jnp.dtype(x.dtype).itemsize) for x in arrays)
    return sum(size * item for size, item in sizes if size % _BATCH == 0) // _BATCH


def _encoders(sizes: Sizes, pixels: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Parameters, and operations for one picture and one text."""
    compute = Compute(attention="plain")
    vae = nnx.eval_shape(lambda: AutoencoderKL(sizes.vae, compute=compute, rngs=make_rngs(0)))
    text = nnx.eval_shape(lambda: CLIPTextModel(sizes.text, compute=compute, rngs=make_rngs(0)))
    picture = jax.ShapeDtypeStruct((1, pixels, pixels, sizes.vae.in_channels), jnp.float32)
    ids = jax.ShapeDtypeStruct((1, sizes.text.max_position_embeddings), jnp.int32)
    return (
        _measured(vae, lambda module, x: module.encode(x), picture),
        _measured(text, lambda module, x: module(x).last_hidden_state, ids),
    )


def _measured(module: Any, call: Callable[[Any, Any], Any], x: Any) -> tuple[int, int]:
    graph, state = nnx.split(module)
    program = jax.make_jaxpr(lambda state, x: call(nnx.merge(graph, state), x))(state, x)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))
    return parameters, flops.count(program.jaxpr)
