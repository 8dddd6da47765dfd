"""A hard ceiling on what judging may cost."""

import dataclasses

from mre_jax.errors import ConfigError


@dataclasses.dataclass
class Budget:
    """Money that may be spent, all runs of a journal together.

    Attributes:
        max_usd: the ceiling in US dollars; None for none.

    Raises:
        ConfigError: for a negative ceiling.
    """

    max_usd: float | None = None

    def __post_init__(self) -> None:
        if self.max_usd is not None and not self.max_usd >= 0:
            raise ConfigError(f"max-usd {self.max_usd}: want 0 or more")

    def covers(self, spent: float, worst: float) -> bool:
        """Whether something that costs `worst` at most may be sent when `spent` is gone."""
        return self.max_usd is None or worst == 0 or spent + worst <= self.max_usd
