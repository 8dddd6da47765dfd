"""A network over pictures applied tile by tile, with the overlaps blended linearly.

The tiles and their weights are those of diffusers' VAE tiling, so that both give the same picture.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_OVERLAP = 0.25


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Square tiles that overlap by a quarter.

    Attributes:
        source: the side of a tile that goes in.
        target: the side of the tile that comes out.
    """

    source: int
    target: int

    def applies(self, x: Float[Array, "b h w c"]) -> bool:
        """Whether `x` is larger than one tile."""
        return max(x.shape[1:3]) > self.source


def apply_tiled(
    network: Callable[[Array], Array], x: Float[Array, "b h w c"], tiling: Tiling
) -> Float[Array, "b h2 w2 c2"]:
    """`network` over overlapping tiles of x, of which one at a time is in memory.

    A network that is not local (attention, group statistics) sees one tile only, so the result
    differs slightly from the network's over the whole picture. The tiles at the right and bottom
    edges are smaller, and every size of tile is compiled once.
    """
    step = int(tiling.source * (1 - _OVERLAP))
    tops, lefts = (range(0, size, step) for size in x.shape[1:3])
    outputs = _outputs(network, x, tops, lefts, tiling.source)
    overlap = int(tiling.target * _OVERLAP)
    keep = tiling.target - overlap

    rows, above = [], None
    for top in tops:
        row: list[Array] = []
        for column, left in enumerate(lefts):
            tile = outputs[top, left]
            # Each tile is blended into its neighbours as they came out of their own blending.
            if above is not None:
                tile = _blend(above[column], tile, overlap, axis=1)
            if row:
                tile = _blend(row[-1], tile, overlap, axis=2)
            row.append(tile)
        rows.append(jnp.concatenate([tile[:, :keep, :keep] for tile in row], axis=2))
        above = row
    return jnp.concatenate(rows, axis=1)


def _outputs(
    network: Callable[[Array], Array], x: Array, tops: range, lefts: range, size: int
) -> dict[tuple[int, int], Array]:
    """The network's output for the tile at each (top, left), by one loop per size of tile."""
    tiles = {
        (top, left): x[:, top : top + size, left : left + size] for top in tops for left in lefts
    }
    by_shape = defaultdict(list)
    for position, tile in tiles.items():
        by_shape[tile.shape].append(position)
    outputs: dict[tuple[int, int], Array] = {}
    for positions in by_shape.values():
        stacked = jax.lax.map(network, jnp.stack([tiles[position] for position in positions]))
        outputs.update(zip(positions, stacked, strict=True))
    return outputs


def _blend(before: Array, tile: Array, overlap: int, axis: int) -> Array:
    """`tile`, whose start fades in over the end of the tile before it along `axis`."""
    overlap = min(before.shape[axis], tile.shape[axis], overlap)
    if overlap == 0:
        return tile
    size, end = tile.shape[axis], before.shape[axis]
    weight = jnp.arange(overlap, dtype=jnp.float32) / overlap
    weight = jnp.expand_dims(weight, [i for i in range(tile.ndim) if i != axis]).astype(tile.dtype)
    old = jax.lax.slice_in_dim(before, end - overlap, end, axis=axis)
    new = jax.lax.slice_in_dim(tile, 0, overlap, axis=axis)
    rest = jax.lax.slice_in_dim(tile, overlap, size, axis=axis)
    return jnp.concatenate([old * (1 - weight) + new * weight, rest], axis=axis)
