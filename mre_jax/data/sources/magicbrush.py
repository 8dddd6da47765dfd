"""MagicBrush: edits of real photos in turns, as parquet files."""

from etils import epath

from mre_jax.data.sources.arrow_rows import ParquetRows
from mre_jax.data.sources.table import Table


def magicbrush(path: epath.PathLike, *, split: str | None = None) -> Table:
    """Its parquet files; an example's id is its picture's and its turn's, "123456-1".

    Args:
        path: a file or the folder of files.
        split: "train" or "dev" of a folder that holds both.
    """
    return Table(
        ParquetRows(path, split),
        {
            "id": ("img_id", "turn_index"),
            "original": "source_img",
            "edited": "target_img",
            "instruction": "instruction",
        },
        name="magicbrush",
    )
