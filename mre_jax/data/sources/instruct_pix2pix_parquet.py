"""InstructPix2Pix as parquet files, in the columns of its public exports."""

from etils import epath

from mre_jax.data.sources.arrow_rows import ParquetRows
from mre_jax.data.sources.table import Table


def instruct_pix2pix_parquet(path: epath.PathLike, *, split: str | None = None) -> Table:
    """The full export, which has captions, or the small public subset, which has none.

    The rows bear no folder name, so that rewards can be joined by row number only.

    Args:
        path: a file or the folder of files.
        split: split of a folder that holds several.
    """
    rows = ParquetRows(path, split)
    full = "input_image" not in rows.columns
    return Table(
        rows,
        {
            "original": "original_image" if full else "input_image",
            "edited": "edited_image",
            "instruction": "edit_prompt",
        },
        optional={"original_caption": "original_prompt", "edited_caption": "edited_prompt"},
        name="instruct_pix2pix",
    )
