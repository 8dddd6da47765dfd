"""Whether a bucket is beside the chips: elsewhere every byte costs, and takes longer."""

from collections.abc import Callable, Sequence

from mre_jax.planning.prices import Prices, egress_warning

Run = Callable[[Sequence[str]], str | None]
"""What a program prints; None if it is not there, fails, or does not end."""


def bucket_location(place: str, run: Run) -> str | None:
    """Region of a bucket in lower case, as "us-central1" or "us"; None if it cannot be asked.

    Example:
        >>> bucket_location("gs://bucket/run", lambda command: "US-WEST4\\n")
        'us-west4'
        >>> bucket_location("runs/first", lambda command: "US-WEST4") is None
        True
    """
    if not place.startswith("gs://"):
        return None
    bucket = place.removeprefix("gs://").partition("/")[0]
    told = run(
        ["gcloud", "storage", "buckets", "describe", f"gs://{bucket}", "--format=value(location)"]
    )
    return told.strip().lower() or None if told else None


def region_warning(
    place: str | None, zone: str | None, gigabytes: float, prices: Prices, run: Run
) -> str | None:
    """What is to be said of a place that is a bucket of another region; None otherwise.

    Args:
        place: a directory, or a set.
        zone: where the chips are.
        gigabytes: that go to and fro.
    """
    if place is None or zone is None:
        return None
    location = bucket_location(place, run)
    if location is None:
        return None
    told = egress_warning(location, zone, gigabytes, prices)
    return None if told is None else f"{place}: {told}"
