"""Parquet files as the public exports write them, pictures as {bytes, path}."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.data.pictures import AFTER, BEFORE

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def image(data: bytes | None = BEFORE, path: str | None = None) -> dict[str, Any]:
    return {"bytes": data, "path": path}


def instruct_row(number: int, **changes: Any) -> dict[str, Any]:
    """A row of InstructPix2Pix's full export."""
    return {
        "original_prompt": f"photo {number}",
        "original_image": image(BEFORE),
        "edit_prompt": f"edit {number}",
        "edited_prompt": f"edited photo {number}",
        "edited_image": image(AFTER),
    } | changes


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], group: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=group)
    return path
