"""The triplets of a source, the first error raised."""

from mre_jax.data.sources.selection import Check, read_checked, select
from mre_jax.data.sources.source import strict


def read_triplets(source, *, max_examples=None, shard=(0, 1), validate=False):
    positions = select(len(source), max_examples, shard)
    return strict(read_checked(source, positions, Check(decode=validate, instruction=validate)))
