"""Gradients of a batch that is too large for memory, computed in parts."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array

from mre_jax.data.batches.batch import Batch
from mre_jax.training.inputs import Frozen
from mre_jax.training.parallel import DATA, FSDP, Layout
from mre_jax.training.state import Parameters

Summary: TypeAlias = tuple[Array, Mapping[str, Array], tuple[Array, Array, Array, Array], Array]
"""The loss of a batch, its parts by name, sums and counts by bin, and whether the loss of each
example is finite."""

Gradients: TypeAlias = Callable[[Parameters, Frozen, Batch], tuple[Parameters, Summary]]


def accumulated(gradients: Gradients, count: int, layout: Layout, together: int = 1) -> Gradients:
    """`gradients` of a batch in `count` parts, one after another on every device.

    Each place along `data` adds up its own gradients in float32; they are summed over `data` once,
    after the last part. Parameters that are split over `fsdp` are gathered, and their gradients
    scattered over it, in every part: that is what splitting them is for.

    Args:
        together: neighbouring examples that stay in one part, as the two of a pair.
    """

    def on_share(params: Parameters, frozen: Frozen, share: Batch) -> tuple[Parameters, Summary]:
        def add(total: Parameters, part: Batch) -> tuple[Parameters, Summary]:
            grads, summary = gradients(params, frozen, part)
            return jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, grads), summary

        zeros = jax.tree.map(lambda x: _pinned(jnp.zeros(x.shape), layout.compute(x).spec), params)
        total, (values, terms, binned, finite) = jax.lax.scan(
            add, zeros, _parts(share, count, together)
        )
        value, terms = jax.tree.map(jnp.mean, (values, terms))
        counts = jax.tree.map(lambda x: x.sum(0), binned)
        total, value, terms, counts = jax.tree.map(lambda x: x[None], (total, value, terms, counts))
        finite = finite.reshape(count, -1, together)  # the inverse of `_parts`
        return total, (value, terms, counts, finite.swapaxes(0, 1).reshape(-1))

    whole, split = PartitionSpec(), PartitionSpec(DATA)
    on_all = jax.shard_map(
        on_share,
        mesh=layout.mesh,
        in_specs=(whole, whole, split),
        out_specs=split,
        axis_names={DATA},
        check_vma=False,
    )

    def in_parts(params: Parameters, frozen: Frozen, batch: Batch) -> tuple[Parameters, Summary]:
        total, (values, terms, binned, finite) = on_all(params, frozen, batch)
        parts = count * layout.mesh.shape[DATA]
        grads = jax.tree.map(lambda x: x.sum(0) / parts, total)
        value, terms = jax.tree.map(jnp.mean, (values, terms))
        return grads, (value, terms, jax.tree.map(lambda x: x.sum(0), binned), finite)

    return in_parts


def _parts(share: Batch, count: int, together: int) -> Batch:
    """[b ...] as [count b/count ...]; every device's examples stay on it."""

    def split(x: Array) -> Array:
        rest = x.shape[1:]
        x = x.reshape(len(x) // (count * together), count, together, *rest).swapaxes(0, 1)
        return _pinned(x.reshape(count, -1, *rest), PartitionSpec(None, FSDP))

    parts: Batch = jax.tree.map(split, share)
    return parts


def _pinned(x: Array, spec: PartitionSpec) -> Array:
    pinned: Array = jax.lax.with_sharding_constraint(x, spec)
    return pinned
