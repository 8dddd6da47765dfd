"""Any table, its columns named by the user, or as those of the public sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mre_jax.data.sources.arrow_rows import ArrowRows, ParquetRows
from mre_jax.data.sources.rows import LOOKED, Rows, existing
from mre_jax.data.sources.source import nearest
from mre_jax.data.sources.table import Columns, Table
from mre_jax.data.sources.table_files import all_files
from mre_jax.data.sources.tar_rows import KEY, TarRows, is_pattern
from mre_jax.data.sources.text_rows import PACKED, CsvRows, open_json
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.scores import PERSPECTIVES

_OWN = (
    *("id", "original", "edited", "instruction"),
    *("original_caption", "edited_caption", "scores", "texts"),
)
FIELDS = (*_OWN, "provenance")
PLAIN: Columns = {
    **{name: name for name in _OWN},
    "scores": PERSPECTIVES,
    "texts": tuple(f"{name}_text" for name in PERSPECTIVES),
}
_REQUIRED = ("original", "edited", "instruction")
_PUBLIC: Mapping[str, Sequence[str]] = {
    "original": (
        *("original_image", "input_image", "source_image", "source_img", "src_img"),
        *("original_file_name", "input_file_name", "source_file_name"),
    ),
    "edited": (
        *("edited_image", "output_image", "target_image", "target_img", "edited_img"),
        *("edited_file_name", "output_file_name", "target_file_name"),
    ),
    "instruction": ("edit_prompt", "edit_instruction", "edit", "prompt"),
}


def plain_table(
    path: epath.PathLike,
    *,
    columns: Columns | None = None,
    name: str = "table",
    images: epath.PathLike | None = None,
    split: str | None = None,
) -> Table:
    """Any table whose columns are named.

    Args:
        path: path of the file or folder; see `open_rows`.
        columns: where they are not those of `PLAIN`. A field named here must be there; of the
            others, `original`, `edited` and `instruction` must, or else just one of the columns
            that public sets have for them, which `Table.notes` lists.
        name: name of the set.
        images: where relative picture paths start; by default at the table's folder.
        split: split of a folder that holds several.

    Raises:
        ConfigError: if `columns` names an unknown field, or there is nothing to split.
        DataError: if the file or a column is missing.
    """
    for field in columns or {}:
        if field not in FIELDS:
            raise ConfigError(f"columns: unknown field {field!r}{nearest(field, FIELDS)}")
    rows = open_rows(path, split)
    taken = _public_columns(_known_columns(rows), columns or {})
    required = {**{field: PLAIN[field] for field in _REQUIRED}, **taken, **(columns or {})}
    optional = PLAIN if "id" in (rows.columns or ("id",)) else {**PLAIN, "id": KEY}
    return Table(rows, required, optional=optional, name=name, images=images, taken=taken)


def _known_columns(rows: Rows) -> Sequence[str]:
    """The columns of a table, or of its first rows if only the rows know."""
    if rows.columns is not None:
        return rows.columns
    first = rows.read(range(min(len(rows), LOOKED)), ())
    return list(dict.fromkeys(name for row in first if isinstance(row, tuple) for name in row[1]))


def _public_columns(there: Sequence[str], named: Columns) -> dict[str, str]:
    """For the fields whose own column is missing, the one that a public set has for them."""
    taken = {}
    for field in _REQUIRED:
        found = [column for column in _PUBLIC[field] if column in there]
        if field not in named and field not in there and len(found) == 1:
            taken[field] = found[0]
    return taken


def open_rows(path: epath.PathLike, split: str | None = None) -> Rows:
    """The rows of a table of any kind: by its suffix, or by what its folder holds.

    Args:
        path: a CSV, TSV, JSON or JSON lines file, perhaps packed; a parquet or Arrow file;
            a WebDataset archive, or several as "set-{0000..0012}.tar"; or a folder with files of
            one of the last three kinds, with a single file of the others, or with such a file
            called "metadata".
        split: split of a folder of parquet, Arrow or tar files.

    Raises:
        DataError: if it is missing or of another kind.
        ConfigError: if a split is chosen of a single file.
    """
    if is_pattern(path):
        return TarRows(path)
    path = existing(path)
    kind = _folder_kind(path) if path.is_dir() else None
    if kind is not None:
        return kind(path, split)
    if path.is_dir():
        path = _single_table(path)
    if split is not None:
        raise ConfigError(f"{path}: split {split!r}: a single table has no splits")
    return _kind(path)(path)


_TEXT_KINDS: Mapping[str, Any] = {
    **dict.fromkeys((".csv", ".tsv"), CsvRows),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), open_json),
}
_FOLDER_KINDS: Mapping[str, Any] = {".parquet": ParquetRows, ".arrow": ArrowRows, ".tar": TarRows}
_FILE_KINDS: Mapping[str, Any] = {**_TEXT_KINDS, **_FOLDER_KINDS, ".feather": ArrowRows}
_PACKED_TAR = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_DESCRIPTIONS = ("state.json", "dataset_info.json", "dataset_dict.json", "dataset_infos.json")


def _kind(file: epath.Path) -> Any:
    name = file.name.lower()
    if name.endswith(_PACKED_TAR):
        return TarRows
    suffix = epath.Path(name).suffix
    if suffix in PACKED:
        suffix, kinds = epath.Path(name.removesuffix(suffix)).suffix, _TEXT_KINDS
    else:
        kinds = _FILE_KINDS
    if suffix not in kinds:
        raise DataError(f"{file}: want a table in {_kinds()}")
    return kinds[suffix]


def _folder_kind(folder: epath.Path) -> Any:
    """The reader of a folder of files of one kind; None if there is a table of its own in it."""
    if _tables(folder, "metadata"):
        return None
    found = [suffix for suffix in _FOLDER_KINDS if all_files(folder, suffix)]
    if len(found) > 1:
        kinds = " and ".join(suffix[1:] for suffix in found)
        raise DataError(f"{folder}: holds {kinds} files; give the folder of one kind")
    return _FOLDER_KINDS[found[0]] if found else None


def _single_table(folder: epath.Path) -> epath.Path:
    found = _tables(folder, "metadata") or _tables(folder)
    if len(found) == 1:
        return found[0]
    there = [path.name for path in found or sorted(folder.iterdir(), key=str)]
    if not found and any(name in there for name in _DESCRIPTIONS):
        raise DataError(
            f"{folder}: saved with datasets.save_to_disk, but its .arrow files are missing"
        )
    shown = ", ".join(there[:5]) + (", ..." if len(there) > 5 else "")
    want = "one table of them" if found else f"a table in {_kinds()}"
    raise DataError(f"{folder}: want {want}; it holds {shown or 'nothing'}")


def _tables(folder: epath.Path, stem: str | None = None) -> list[epath.Path]:
    """The text tables of a folder, or one in parquet of that name; all, or those of that name."""
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=str)
    endings = tuple(suffix + packed for suffix in _TEXT_KINDS for packed in ("", *PACKED))
    endings += (".parquet",) if stem else ()
    return [
        file
        for file in files
        if file.name.lower().endswith(endings)
        and file.name not in _DESCRIPTIONS
        and stem in (None, file.name.partition(".")[0])
    ]


def _kinds() -> str:
    texts = ", ".join(_TEXT_KINDS)
    return f"{texts} (or {', '.join(PACKED)} of these), {', '.join(_FOLDER_KINDS)}"
