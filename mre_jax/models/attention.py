"""softmax(q k^T / sqrt(d)) v, by whichever implementation suits the device and the shapes.

`attention` takes a concrete implementation by name, or a rule that picks one:

    auto            the rule of the platform that runs the program
    tpu, gpu, cpu   that platform's rule, wherever the program is traced: a program for a TPU can
                    be lowered on a machine that has none
    plain           two einsums and a float32 softmax
    chunked         plain for some queries of one example at a time, whose scores fit a cache
    xla             jax.nn.dot_product_attention
    cudnn           its fused CUDA kernel (float16 and bfloat16)
    flash, splash   the Pallas TPU kernels, for sequences of whole blocks; other lengths take plain

On a TPU, plain and xla compile to the same program. The rules use plain, whose bfloat16 gradient
also exists under strict dtype promotion.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.experimental.pallas.ops.tpu import flash_attention as flash_lib
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash_lib
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as mask_lib
from jaxtyping import Array, Float

from mre_jax.errors import ConfigError

# Below this many tokens XLA's own fusion beats the kernels on a TPU.
_SPLASH_TOKENS = 1024
# All scores of a picture are too many for a CPU's cache at 1024 tokens (32 MB for 8 heads), and at
# 6144 (1.2 GB) nearly for its memory.
_CHUNKED_TOKENS = 1024
_CHUNK = 128
_SMALLEST_CHUNK = 32
_LANES = 128
# Largest tiles of queries and keys; they cost the least instructions per score in the kernels'
# schedules for a TPU v5e (splash: a fifth less than 512 by 512 everywhere) and fit every TPU.
_FLASH_BLOCK = 512
_SPLASH_BLOCKS = (512, 1024)
_SPLASH_BLOCKS_DKV = (1024, 512)


def attention(
    query: Float[Array, "b n k d"],
    key: Float[Array, "b t k d"],
    value: Float[Array, "b t k d"],
    *,
    implementation: str = "auto",
    causal: bool = False,
) -> Float[Array, "b n k d"]:
    """Scaled dot-product attention over k heads of width d (Vaswani et al. 2017, Eq. 1).

    The softmax is taken in float32; the result has the dtype of `query`, which all three share.
    Under a mesh (`jax.set_mesh`) a Pallas kernel runs on each device's part of the batch.

    Args:
        implementation: a name in this module's docstring.
        causal: token i sees tokens 0..i only.

    Raises:
        ConfigError: for an unknown implementation.

    Example:
        >>> query, context = jnp.ones((1, 4, 2, 8)), jnp.ones((1, 7, 2, 8))
        >>> attention(query, context, context).shape
        (1, 4, 2, 8)
    """
    check_implementation(implementation)
    name = jax.default_backend() if implementation == "auto" else implementation
    if name not in _KERNELS:
        name = _RULES.get(name, _for_cpu)(query, key)
    return _KERNELS[name](query, key, value, causal)


def check_implementation(implementation: str) -> None:
    """Raises ConfigError unless `implementation` is a name that `attention` knows."""
    if implementation not in IMPLEMENTATIONS:
        raise ConfigError(
            f"attention implementation {implementation!r} is unknown; "
            f"choose one of {', '.join(IMPLEMENTATIONS)}"
        )


def _for_tpu(query: Array, key: Array) -> str:
    tokens = query.shape[1]
    is_long_self_attention = tokens >= _SPLASH_TOKENS and key.shape[1] == tokens
    return "splash" if is_long_self_attention else "plain"


def _for_gpu(query: Array, key: Array) -> str:
    width = query.shape[3]
    fits = query.dtype in (jnp.bfloat16, jnp.float16) and width <= 128 and width % 8 == 0
    return "cudnn" if fits and _has_fused_attention() else "plain"


def _for_cpu(query: Array, key: Array) -> str:
    is_long = min(query.shape[1], key.shape[1]) >= _CHUNKED_TOKENS
    return "chunked" if is_long else "plain"


def _has_fused_attention() -> bool:
    """Whether the GPU is of the Ampere generation or newer; a GPU that is not here is taken so."""
    if jax.default_backend() != "gpu":
        return True
    return float(jax.devices()[0].compute_capability) >= 8.0


def _plain(query: Array, key: Array, value: Array, causal: bool) -> Array:
    logits = jnp.einsum("bnkd,btkd->bknt", query, key, preferred_element_type=jnp.float32)
    logits = logits * (1 / math.sqrt(query.shape[-1]))
    if causal:
        visible = jnp.tril(jnp.ones(logits.shape[-2:], bool))
        logits = jnp.where(visible, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    return jnp.einsum("bknt,btkd->bnkd", weights, value)


def _chunked(query: Array, key: Array, value: Array, causal: bool) -> Array:
    chunk = math.gcd(query.shape[1], _CHUNK)
    if causal or chunk < _SMALLEST_CHUNK:
        return _plain(query, key, value, causal)

    def of_one_example(tensors: tuple[Array, Array, Array]) -> Array:
        query, key, value = tensors
        chunks = rearrange(query, "(m n) k d -> m 1 n k d", n=chunk)
        out = jax.lax.map(lambda part: _plain(part, key[None], value[None], causal), chunks)
        joined: Array = rearrange(out, "m 1 n k d -> (m n) k d")
        return joined

    examples: Array = jax.lax.map(of_one_example, (query, key, value))
    return examples


def _xla(query: Array, key: Array, value: Array, causal: bool) -> Array:
    return _library(query, key, value, causal, "xla")


def _cudnn(query: Array, key: Array, value: Array, causal: bool) -> Array:
    return _library(query, key, value, causal, "cudnn")


def _library(
    query: Array, key: Array, value: Array, causal: bool, implementation: Literal["xla", "cudnn"]
) -> Array:
    # JAX's function mixes dtypes by itself, which must not fail where the caller forbids it.
    with jax.numpy_dtype_promotion("standard"):
        return jax.nn.dot_product_attention(
            query, key, value, is_causal=causal, implementation=implementation
        )


def _flash(query: Array, key: Array, value: Array, causal: bool) -> Array:
    width = query.shape[-1]
    if not _whole_blocks(query, key) or (width > _LANES and width % _LANES):
        return _plain(query, key, value, causal)
    n, t = (math.gcd(x.shape[1], _FLASH_BLOCK) for x in (query, key))
    kernel = functools.partial(
        flash_lib.flash_attention,
        causal=causal,
        sm_scale=1.0 / math.sqrt(width),
        block_sizes=flash_lib.BlockSizes(
            block_q=n,
            block_k_major=t,
            block_k=t,
            block_b=1,
            block_q_major_dkv=n,
            block_k_major_dkv=t,
            block_k_dkv=t,
            block_q_dkv=n,
            block_k_major_dq=t,
            block_k_dq=t,
            block_q_dq=n,
        ),
    )
    return _per_device(kernel, query, key, value)


def _splash(query: Array, key: Array, value: Array, causal: bool) -> Array:
    if not _whole_blocks(query, key):
        return _plain(query, key, value, causal)
    # This kernel knows no scale. The product is taken in float32 so that it rounds once.
    scale = 1.0 / math.sqrt(query.shape[-1])
    query = (query.astype(jnp.float32) * scale).astype(query.dtype)
    return _per_device(functools.partial(_splash_kernel, causal=causal), query, key, value)


def _splash_kernel(
    query: Float[Array, "b k n d"],
    key: Float[Array, "b k t d"],
    value: Float[Array, "b k t d"],
    causal: bool,
) -> Float[Array, "b k n d"]:
    _, heads, queries, width = query.shape
    shape = queries, key.shape[2]
    mask = (mask_lib.CausalMask if causal else mask_lib.FullMask)(shape)
    # The autoencoder's single head is so wide that larger blocks overflow a TPU v4 in float32.
    largest = 1024 if width <= 2 * _LANES else 256
    n, t, n_dkv, t_dkv = (
        math.gcd(tokens, min(block, largest))
        for tokens, block in zip(shape * 2, (*_SPLASH_BLOCKS, *_SPLASH_BLOCKS_DKV), strict=True)
    )
    # A last axis is padded to whole lanes in memory; tokens fill them where the head does not.
    minor = (
        splash_lib.QKVLayout.SEQ_MINOR if width % _LANES else splash_lib.QKVLayout.HEAD_DIM_MINOR
    )
    kernel = splash_lib.make_splash_mha(
        mask_lib.MultiHeadMask([mask] * heads),
        block_sizes=splash_lib.BlockSizes(
            block_q=n,
            block_kv=t,
            block_q_dq=n,
            block_kv_dq=t,
            block_q_dkv=n_dkv,
            block_kv_dkv=t_dkv,
            q_layout=minor,
            k_layout=minor,
            v_layout=minor,
        ),
        head_shards=1,
        q_seq_shards=1,
    )
    out: Array = jax.vmap(kernel)(query, key, value)
    return out


def _whole_blocks(query: Array, key: Array) -> bool:
    return query.shape[1] % _LANES == 0 and key.shape[1] % _LANES == 0


def _per_device(
    kernel: Callable[[Array, Array, Array], Array], query: Array, key: Array, value: Array
) -> Array:
    """Calls a head-major kernel, on several devices once on each with its part of the batch.

    XLA cannot partition a Pallas kernel by itself. A batch that the mesh does not divide is
    computed whole on every device.
    """

    def head_major(query: Array, key: Array, value: Array) -> Array:
        query, key, value = (jnp.einsum("bnkd->bknd", x) for x in (query, key, value))
        return jnp.einsum("bknd->bnkd", kernel(query, key, value))

    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(name for name in mesh.axis_names if name not in mesh.manual_axes)
    if not axes:
        return head_major(query, key, value)
    devices = math.prod(mesh.shape[name] for name in axes)
    by_batch = jax.P(axes if query.shape[0] % devices == 0 else None)
    return jax.shard_map(
        head_major,
        in_specs=(by_batch, by_batch, by_batch),
        out_specs=by_batch,
        axis_names=set(axes),
        check_vma=False,
    )(query, key, value)


_KERNELS: dict[str, Callable[[Array, Array, Array, bool], Array]] = {
    "plain": _plain,
    "chunked": _chunked,
    "xla": _xla,
    "cudnn": _cudnn,
    "flash": _flash,
    "splash": _splash,
}
_RULES: dict[str, Callable[[Array, Array], str]] = {
    "tpu": _for_tpu,
    "gpu": _for_gpu,
    "cpu": _for_cpu,
}
IMPLEMENTATIONS = ("auto", *_RULES, *_KERNELS)
