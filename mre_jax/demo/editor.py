"""What the demo must know of the pretrained editor, read from the editor's own files."""

from typing import NamedTuple

from etils import epath

from mre_jax.io.json_file import read_object


class EditorSizes(NamedTuple):
    """Sizes of a pretrained editor.

    Attributes:
        pixels: along a side of the pictures that it was trained on.
        in_channels: of its UNet.
    """

    pixels: int
    in_channels: int

    @classmethod
    def of(cls, folder: epath.PathLike) -> "EditorSizes":
        """Reads a diffusers folder.

        Raises:
            DataError: if a configuration is missing or damaged.

        Example:
            >>> EditorSizes.of(TOY).pixels % 8
            0
        """
        folder = epath.Path(folder)
        unet = read_object(folder / "unet" / "config.json")
        vae = read_object(folder / "vae" / "config.json")
        downscale = 2 ** (len(vae["block_out_channels"]) - 1)
        return cls(unet["sample_size"] * downscale, unet["in_channels"])
