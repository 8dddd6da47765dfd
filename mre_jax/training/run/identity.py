"""What a run is, and whether what is asked for now is the same run."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.begun_folder import Difference, differences, refuse
from mre_jax.training.config import TrainConfig

# What may change when a run goes on: nothing of it changes what the next step computes, but for
# rounding. Sections end with a dot.
FREE = (
    "name",
    "data.paths",  # their content decides
    "data.threads",
    "data.workers",
    "data.ahead",
    "data.requests",
    # What fits the run to other devices: the same sums in another order.
    "mesh.",
    "optimizer.accumulation",  # the same batch in more or fewer parts
    "model.remat",  # the same activations, kept or computed again
    "model.attention",  # the same function by another kernel
    "checkpoint.",
    "validation.",
    "log.",
    "guard.",
)
FLAG = "--allow-config-change"

_REMEDY = f"set it back, start another run, or pass {FLAG}"


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a run is, wherever and however often it is started.

    Attributes:
        config: the resolved configuration.
        data: `Manifest.hash` of each set, in the order of `config.data.paths`.
        init: hash of the initial weights; None if they were not looked at.
    """

    config: TrainConfig
    data: tuple[str, ...]
    init: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `run.json`."""
        return {
            "config_hash": self.config.hash,
            "config": self.config.to_dict(),
            "data": list(self.data),
            "init": self.init,
        }

    def to_meta(self) -> dict[str, Any]:
        """As it is kept with every checkpoint."""
        return {"config": self.config.hash, "data": list(self.data), "init": self.init}

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], origin: str) -> "Identity":
        """The inverse of `to_dict`.

        Raises:
            DataError: if it is not of that form; `origin` begins the message.
        """
        try:
            config = TrainConfig.from_dict(mapping["config"], origin)
            return cls(config, tuple(mapping["data"]), mapping["init"])
        except (KeyError, TypeError, ConfigError) as error:
            raise DataError(f"{origin} is not of this version's form ({error})") from None


def check_same_run(previous: Identity, new: Identity, *, allow: bool = False) -> list[Difference]:
    """Refuses to go on with a run as another one.

    Args:
        previous: from the run's directory.
        new: what is asked for now.
        allow: change what must not change nevertheless.

    Returns:
        Everything that differs.

    Raises:
        ConfigError: naming every key that must not change and does, with both values.
    """
    found = [*differences(previous.config.to_dict(), new.config.to_dict())]
    found += _contents(previous.data, previous.init, new)
    known = previous.init is not None and new.init is not None
    refused = [
        difference
        for difference in found
        if not _is_free(difference.key, new.config, known_init=known)
    ]
    if not allow:
        refuse("the run", refused, _REMEDY)
    return found


def check_same_meta(
    meta: Mapping[str, Any], new: Identity, *, allow: bool = False
) -> list[Difference]:
    """`check_same_run` by what a checkpoint says, for a directory that has lost its run.json.

    Hashes alone do not tell a setting that may change from one that must not.

    Args:
        meta: what `Identity.to_meta` gave, kept with the checkpoint.
    """
    found = []
    if meta.get("config") != new.config.hash:
        was = str(meta.get("config"))
        found.append(Difference("hash of the configuration", was[:12], new.config.hash[:12]))
    found += _contents(tuple(meta.get("data", ())), meta.get("init"), new)
    if not allow:
        refuse("the run", found, _REMEDY)
    return found


def _contents(data: tuple[str, ...], init: str | None, new: Identity) -> Iterator[Difference]:
    """Data and initial weights that are not what they were."""
    if data != new.data:
        was, now = (", ".join(h[:12] for h in hashes) for hashes in (data, new.data))
        yield Difference("content of data.paths", was, now)
    if None not in (init, new.init) and init != new.init:
        yield Difference("content of model.init_from", init, new.init)


def _is_free(key: str, config: TrainConfig, *, known_init: bool) -> bool:
    if key == "steps":  # the rate of every step depends on it, unless constant
        return config.optimizer.schedule == "constant"
    if key in ("model.init_from", "model.base"):  # the content decides, where it is known
        return known_init
    return any(key.startswith(free) if free.endswith(".") else key == free for free in FREE)
