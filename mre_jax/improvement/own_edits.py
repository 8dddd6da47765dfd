"""Which training examples an editor edits in a round, and its edits as a table of triplets."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mre_jax.data.batches.order import permutation
from mre_jax.data.cache.description import KEPT
from mre_jax.data.provenance import Provenance
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.triplets import Triplet, safe_id
from mre_jax.editing.size import Size, fit, parse_size, target_size
from mre_jax.errors import ConfigError, DataError
from mre_jax.improvement.spec import ImproveSpec
from mre_jax.io.files import write_atomically
from mre_jax.io.image import FORMATS
from mre_jax.io.json_file import read_rows, to_line
from mre_jax.reward.file import Reward

NAME = "own_edits"
"""Of the sets that are made."""

TABLE: Mapping[str, Any] = {"name": NAME, "columns": {"provenance": "provenance"}}
"""Options by which the source "table" reads what `edit_rows` gives."""


def check_pictures(sources: Sequence[RecordSource]) -> None:
    """Refuses sets whose pictures cannot be edited any more.

    Raises:
        ConfigError: naming the set.
    """
    for source in sources:
        if source.cache is not None and source.cache.pictures != KEPT:
            raise ConfigError(f"{source.path}: its pictures were dropped; cache it with them")


def choose(sizes: Sequence[int], count: int, *, seed: int, round: int) -> list[tuple[int, int]]:
    """The examples that are edited in a round, as (set, record), in their order.

    Rounds take turns through all examples in an order by chance: none is edited in two rounds
    before all were in one.

    Args:
        sizes: records of each set.
        count: how many; more than there are is all.
        seed: of the order.
        round: from 1.

    Example:
        >>> rounds = [choose([3, 2], 2, seed=0, round=number) for number in (1, 2)]
        >>> len({*rounds[0], *rounds[1]})
        4
    """
    total = sum(sizes)
    count = min(count, total)
    # As a set of a number that no set has: independent of every order of training.
    order = permutation(seed, 0, total, len(sizes))
    chosen = sorted(
        int(order[place % total]) for place in range((round - 1) * count, round * count)
    )
    places = [(number, record) for number, size in enumerate(sizes) for record in range(size)]
    return [places[place] for place in chosen]


def write_items(
    folder: Path,
    sources: Sequence[RecordSource],
    chosen: Sequence[tuple[int, int]],
    spec: ImproveSpec,
    round: int,
) -> Path:
    """Writes the pictures of the chosen examples, and the list of edits for `mre sample`.

    A picture is written at the size at which it will be edited, so that it and its edits go
    together as a triplet.

    Returns:
        the list, which is written last.

    Raises:
        DataError: naming an example whose picture is damaged or too small.
    """
    (folder / "originals").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, record in chosen:
        triplet = sources[number][record]
        data, kind = _picture(triplet, parse_size(spec.size), spec.resolution)
        name = f"originals/{number}-{triplet.id}.{kind}"
        write_atomically(folder / name, data)
        for seed in range(spec.seeds_per_edit):
            about = {"round": round, "seed": (spec.conditions.seed + seed) % 2**32}
            of = {"source": triplet.source, "example": triplet.id}
            item = {
                "id": safe_id(f"round{round}-set{number}-{triplet.id}-seed{seed}"),
                "image": name,
                "prompt": triplet.instruction,
                "seed": about["seed"],
                "meta": {**about, **of},
            }
            lines.append(to_line(item))
    path = folder / "items.jsonl"
    write_atomically(path, "".join(lines))
    return path


def _picture(triplet: Triplet, preset: str | Size, resolution: int) -> tuple[bytes, str]:
    """The original's file as it is, or a PNG if it is edited at another size; and its format."""
    image = triplet.original_image()
    size = target_size(image.size, preset, resolution)
    if size == image.size:
        with Image.open(io.BytesIO(triplet.original), formats=FORMATS) as file:
            return triplet.original, str(file.format).lower()
    buffer = io.BytesIO()
    fit(image, size).save(buffer, "PNG")
    return buffer.getvalue(), "png"


def edit_rows(samples: Path) -> list[dict[str, Any]]:
    """The edits that a folder of `write_items` holds by now, as rows of a table beside it.

    Raises:
        DataError: if there is none.
    """
    rows = []
    for _, row in read_rows(samples / "results.jsonl"):
        made = Provenance(model=row["checkpoint"], **row["meta"])
        rows.append(
            {
                "id": row["id"],
                "original": f"../{samples.name}/{row['image']}",
                "edited": f"../{samples.name}/{row['file']}",
                "instruction": row["request"]["prompt"],
                "provenance": made.to_json(),
            }
        )
    if not rows:
        raise DataError(f"{samples}: no edit could be made; its failed.jsonl says why")
    return rows


def judged_rows(
    rows: Sequence[Mapping[str, Any]], rewards: Mapping[str, Reward], judge: str
) -> Iterator[dict[str, Any]]:
    """The rows that have a reward, with who gave it."""
    for row in rows:
        if row["id"] in rewards:
            yield {**row, "provenance": {**row["provenance"], "judge": judge}}
