"""Table 7: CLIP following and preserving, FID and KID.

The paper does not say which features its FID is of: all four widths are measured. The reference
set has each photo once, however often it is edited: repeated ones would add k(x, x) to KID's mean
over pairs, which is unbiased only without them. FID hardly minds, since its mean is the same and
its covariance is multiplied by (n - 1) / (n - 1/7) if each of n photos stands seven times.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edit_set import EditSet
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.metrics.networks import Networks, SetNetworkSpec
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.suite import MeasuredSuite
from mre_jax.evaluation.suites.real_edit import read_real_edit

SUITE = "table7"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table7(MeasuredSuite):
    """The metrics without a judge of the paper's Table 7.

    Attributes:
        data: folder of images/ and instructions.json.
        networks: CLIP, Inception or both.

    Raises:
        ConfigError: if neither network is named.

    Example:
        >>> from mre_jax import SystemSpec
        >>> system = SystemSpec("ours", images="edits")
        >>> suite = Table7(
        ...     data="real-edit", networks=SetNetworkSpec(clip="clip-vit-base-patch32"),
        ...     out="out", system=system,
        ... )
        >>> suite.name
        'table7'
    """

    networks: SetNetworkSpec = dataclasses.field(default_factory=SetNetworkSpec)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.networks.check_some()

    name = SUITE

    @functools.cached_property
    def parts(self) -> Mapping[str, Sequence[Case]]:
        """See `Suite.parts`."""
        return {SUITE: read_real_edit(fetched(self.data, self.out))}

    def measure(self, edits: EditSet, networks: Networks) -> Iterator[list[Result]]:
        """See `MeasuredSuite.measure`."""
        if (clip := networks.clip) is not None:
            texts = [case.instruction for case in edits.made]
            following = clip.following(edits.edited, texts)
            yield edits.rows("clip_following", following, clip.measure)
            preserving = clip.preserving(edits.originals, edits.edited)
            yield edits.rows("clip_preserving", preserving, clip.measure)
        if (inception := networks.inception) is not None:
            from mre_jax.evaluation.metrics.inception_scores import compare_sets

            photos = list(dict.fromkeys(edits.originals))
            scores = compare_sets(inception, photos, edits.edited)
            yield edits.set_rows(scores, inception.measure)
