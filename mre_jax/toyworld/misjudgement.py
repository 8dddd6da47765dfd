"""What a judge that errs makes of an exact score, so that it is known how much it errs."""

import dataclasses
import hashlib
import math

import numpy as np

from mre_jax.errors import ConfigError
from mre_jax.reward.scores import MAX_SCORE


@dataclasses.dataclass(frozen=True)
class Misjudgement:
    """An error of scores: Gaussian, and the same whenever the same thing is judged.

    Attributes:
        noise: standard deviation in points of the score, which is from 0 to 5.
        bias: points that a score is too high on average, before it is clipped.
        seed: seed of the noise.

    Raises:
        ConfigError: if the noise is negative, or a number is not finite.

    Example:
        >>> erring = Misjudgement(noise=0.8, bias=0.5)
        >>> [round(erring(3.0, name), 2) for name in ("a", "b", "a")]
        [3.61, 3.29, 3.61]
        >>> Misjudgement()(3.0, "a")
        3.0
    """

    noise: float = 0.0
    bias: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.noise < math.inf and math.isfinite(self.bias)):
            raise ConfigError(
                f"a judge of noise={self.noise!r} and bias={self.bias!r}: want a noise of at least "
                "0, and finite numbers"
            )

    def __bool__(self) -> bool:
        """Whether any score is changed."""
        return bool(self.noise or self.bias)

    def __call__(self, exact: float, what: str) -> float:
        """The score that the judge gives.

        Args:
            exact: from 0 to 5.
            what: what is judged, as a text: it and the seed decide the error, whatever else is
                judged before or after.

        Returns:
            From 0 to 5: what goes beyond is clipped.
        """
        if not self:
            return exact
        digest = hashlib.sha256(f"{self.seed} {what}".encode()).digest()
        error = np.random.default_rng(int.from_bytes(digest, "little")).standard_normal()
        return float(np.clip(exact + self.bias + self.noise * error, 0, MAX_SCORE))
