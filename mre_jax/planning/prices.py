"""What chips, storage and transfers cost: a dated file, which the user can replace."""

import dataclasses
import importlib.resources
from collections.abc import Mapping
from typing import Any

import yaml
from etils import epath

from mre_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Prices:
    """US dollars.

    Attributes:
        as_of: day of the prices.
        chip_hour: of one chip on demand, by chip.
        spot_share: share of it that a spot chip costs.
        storage_gb_month: of a gigabyte in a bucket for a month.
        egress_gb: of a gigabyte to another region, by "continent" and "world".

    Example:
        >>> prices = load_prices()
        >>> round(prices.hours("v5e", chips=16, hours=10, spot=False))
        192
    """

    as_of: str
    chip_hour: Mapping[str, float]
    spot_share: float
    storage_gb_month: float
    egress_gb: Mapping[str, float]

    def hours(self, chip: str, chips: int, hours: float, *, spot: bool) -> float | None:
        """Of so many chips for so many hours; None if their price is not known."""
        price = self.chip_hour.get(chip)
        return None if price is None else price * chips * hours * (self.spot_share if spot else 1)

    def egress(self, here: str, there: str) -> float:
        """Of a gigabyte between two regions; 0 within one, or within a bucket of its continent."""
        one, other = (name.lower().partition("-")[0] for name in (here, there))
        if here.lower() == there.lower():
            return 0.0
        return self.egress_gb["continent" if one == other else "world"]


def load_prices(path: epath.PathLike | None = None) -> Prices:
    """The prices that come with the package, or those of another file of that form.

    Raises:
        ConfigError: naming the file, and what it lacks or has too much.
    """
    file = importlib.resources.files(__package__) / "prices.yaml" if path is None else None
    try:
        text = file.read_text() if file is not None else epath.Path(str(path)).read_text()
        content: Any = yaml.safe_load(text)
    except FileNotFoundError:
        raise ConfigError(f"--prices {path}: no such file; see planning/prices.yaml") from None
    except yaml.YAMLError as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"--prices {path}: not YAML ({reason}); see prices.yaml") from None
    names = [field.name for field in dataclasses.fields(Prices)]
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise ConfigError(f"--prices {path}: want the keys {', '.join(names)}, as prices.yaml")
    for name in ("chip_hour", "egress_gb"):
        if not isinstance(content[name], dict):
            raise ConfigError(f"--prices {path}: {name} wants a price by name, as prices.yaml")
    for value in _numbers(content):
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            raise ConfigError(f"--prices {path}: {value!r} is no price; want 0 or more")
    return Prices(**{**content, "as_of": str(content["as_of"])})


def egress_warning(location: str, zone: str, gigabytes: float, prices: Prices) -> str | None:
    """What is to be said where a bucket is not in the region of the chips; None where it is.

    Args:
        location: of the bucket, as "us-central1", "us" or "nam4".
        zone: of the chips, as "us-west4-a".
        gigabytes: what is read from the bucket and written to it.

    Example:
        >>> print(egress_warning("europe-west4", "us-west4-a", 100, load_prices()))
        the bucket is in europe-west4 and the chips are in us-west4: 100 GB cost about 8.00 USD ...
        >>> egress_warning("us-west4", "us-west4-a", 100, load_prices()) is None
        True
    """
    region, place = zone.rpartition("-")[0], location.lower()
    if region == place:
        return None
    cost = gigabytes * prices.egress(place, region)
    return (
        f"the bucket is in {place} and the chips are in {region}: {gigabytes:.0f} GB cost about "
        f"{cost:.2f} USD between them, and take longer (prices of {prices.as_of})"
    )


def _numbers(content: Mapping[str, Any]) -> list[Any]:
    flat = [content["spot_share"], content["storage_gb_month"]]
    return [*flat, *content["chip_hour"].values(), *content["egress_gb"].values()]
