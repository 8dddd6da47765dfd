"""Files that are there as a whole or not at all, whenever the process is killed."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mre_jax.io.files import write_atomically


def write_json(path: Path, value: Any) -> None:
    """A readable JSON file, the same bytes for the same value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """A folder that appears with all its files; one that is already there is left as it is."""
    if folder.exists():
        return
    part = folder.with_name(f".{folder.name}.part")
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    for name, content in files.items():
        (part / name).write_bytes(content)
    part.rename(folder)
