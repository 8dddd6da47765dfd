"""Any table in CSV, JSONL or parquet, its columns named by the user."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from mre_jax.data.rewards import PERSPECTIVES
from mre_jax.data.sources.parquet_rows import ParquetRows
from mre_jax.data.sources.rows import Rows, existing
from mre_jax.data.sources.table import Columns, Table, nearest
from mre_jax.data.sources.text_rows import CsvRows, JsonlRows
from mre_jax.errors import ConfigError, DataError

FIELDS = (
    *("id", "original", "edited", "instruction"),
    *("original_caption", "edited_caption", "scores", "texts"),
)
PLAIN: Columns = {
    **{name: name for name in FIELDS},
    "scores": PERSPECTIVES,
    "texts": tuple(f"{name}_text" for name in PERSPECTIVES),
}
_REQUIRED = ("original", "edited", "instruction")


def plain_table(
    path: epath.PathLike,
    *,
    columns: Columns | None = None,
    name: str = "table",
    images: epath.PathLike | None = None,
    split: str | None = None,
) -> Table:
    """Any CSV, JSONL or parquet table whose columns are named.

    Args:
        path: of the file; see `open_rows` for folders.
        columns: where they are not those of `PLAIN`. A field named here must be there; of the
            others, `original`, `edited` and `instruction` must.
        name: of the set.
        images: where relative picture paths start; by default at the table's folder.
        split: of a folder of parquet files that holds several.

    Raises:
        ConfigError: if `columns` names an unknown field, or there is nothing to split.
        DataError: if the file or a column is missing.
    """
    for field in columns or {}:
        if field not in FIELDS:
            raise ConfigError(f"columns: unknown field {field!r}{nearest(field, FIELDS)}")
    required = {**{field: PLAIN[field] for field in _REQUIRED}, **(columns or {})}
    return Table(open_rows(path, split), required, optional=PLAIN, name=name, images=images)


def open_rows(path: epath.PathLike, split: str | None = None) -> Rows:
    """The rows of a .csv, .jsonl or .parquet file, or of a folder of parquet files.

    A folder with a `metadata.csv`, `metadata.jsonl` or `metadata.parquet` stands for that file.

    Raises:
        DataError: if it is missing or of another kind.
        ConfigError: if a split is chosen of anything but a folder of parquet files.
    """
    path = existing(path)
    if path.is_dir():
        tables = [path / f"metadata{suffix}" for suffix in _KINDS]
        path = next((table for table in tables if table.exists()), path)
    if path.is_dir():
        return ParquetRows(path, split)
    if split is not None:
        raise ConfigError(f"{path}: split {split!r}: a single table has no splits")
    if path.suffix.lower() not in _KINDS:
        raise DataError(f"{path}: want a table in {', '.join(_KINDS)}")
    return _KINDS[path.suffix.lower()](path)


_KINDS: Mapping[str, Any] = {".csv": CsvRows, ".jsonl": JsonlRows, ".parquet": ParquetRows}
