"""HIVE: one JSON object a line, with paths of its pictures."""

from etils import epath

from mre_jax.data.sources.table import Table
from mre_jax.data.sources.text_rows import JsonlRows


def hive(path: epath.PathLike, *, images: epath.PathLike | None = None) -> Table:
    """A HIVE list of `instruction`, `source_img` and `edited_img`.

    Args:
        path: path of the JSONL file.
        images: where the pictures' paths start; by default at the file's folder.
    """
    return Table(
        JsonlRows(path),
        {"original": "source_img", "edited": "edited_img", "instruction": "instruction"},
        name="hive",
        images=images,
    )
