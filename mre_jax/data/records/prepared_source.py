"""A prepared set as a source of triplets, to be written again with more in its records."""

from collections.abc import Iterator, Sequence

from etils import epath

from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.records.shards import Plan
from mre_jax.data.sources.source import Keys
from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError


class PreparedSource:
    """The records of a folder of `mre prepare`, in their order.

    Attributes:
        name: of the set.
        path: of the folder.
        records: random access to them.
    """

    def __init__(self, folder: epath.PathLike):
        """Opens a folder; raises as `RecordSource`."""
        self.records = RecordSource(folder)
        self.name, self.path = self.records.manifest.name, str(folder)

    def __len__(self) -> int:
        return len(self.records)

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        """Yields the triplets; see `Source`. A damaged record is raised: the set is broken."""
        return (self.records[position] for position in positions)

    def keys(self) -> Keys:
        """Row numbers; rewards were joined before."""
        return Keys(rows=range(len(self)), total=len(self))

    def plan(self) -> Plan:
        """As many shards as there are, with the same parts of the set."""
        manifest = self.records.manifest
        return Plan(
            name=manifest.name,
            split=manifest.split,
            positions=range(len(self)),
            shards=len(manifest.shards),
            sample=manifest.hash,
        )
