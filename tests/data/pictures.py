"""Small pictures as the bytes of their files."""

import io

from PIL import Image


def picture(colour: str = "red", size: tuple[int, int] = (12, 8), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


BEFORE, AFTER = picture("red"), picture("blue")
