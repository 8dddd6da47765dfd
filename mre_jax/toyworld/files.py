"""Files that are there as a whole or not at all, whenever the process is killed."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside the path and rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def write_json(path: Path, value: Any) -> None:
    """A readable JSON file, the same bytes for the same value."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


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
