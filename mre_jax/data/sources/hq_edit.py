"""HQ-Edit: large synthetic pictures, each with an edit and its inverse."""

from etils import epath

from mre_jax.data.sources.arrow_rows import ParquetRows
from mre_jax.data.sources.table import Table


def hq_edit(path: epath.PathLike, *, split: str | None = None, inverse: bool = False) -> Table:
    """The parquet files of HQ-Edit.

    Args:
        path: a file or the folder of files.
        split: split of a folder that holds several.
        inverse: read every edit backwards: from the output to the input, by `inverse_edit`.
    """
    before, after = ("output", "input") if inverse else ("input", "output")
    return Table(
        ParquetRows(path, split),
        {
            "original": f"{before}_image",
            "edited": f"{after}_image",
            "instruction": "inverse_edit" if inverse else "edit",
        },
        optional={"original_caption": before, "edited_caption": after},
        name="hq_edit_inverse" if inverse else "hq_edit",
    )
