"""The whole chain with a perspective that the paper does not have, in a process of its own.

python -m tests.reward.fourth_perspective FOLDER
"""

import json
import sys
from pathlib import Path

from mre_jax.reward import scores

# Before anything else is imported: all rooms take their perspectives from here.
scores.PERSPECTIVES = (*scores.PERSPECTIVES, "style")
scores.BEST, scores.WORST = (5.0,) * 4, (0.0,) * 4

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import tests.conftest  # noqa: E402, F401 (its environment)
from mre_jax import cli  # noqa: E402
from mre_jax.evaluation.tables.fill import Source, render  # noqa: E402
from tests.evaluation.rows import series  # noqa: E402
from tests.tiny_editor import make_tiny_editor  # noqa: E402
from tests.training.train_files import train, write_config  # noqa: E402


def write_table(folder: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    for name, picture in zip(("original", "edited"), pixels, strict=True):
        Image.fromarray(picture).save(folder / f"{name}.png")
    rows = [
        {
            **{"id": f"e{number}", "original": "original.png", "edited": "edited.png"},
            **{"instruction": "make it snow"},
            **{name: place for place, name in enumerate(scores.PERSPECTIVES, 1)},
            **{f"{name}_text": f"bad {name}" for name in scores.PERSPECTIVES},
        }
        for number in range(8)
    ]
    path = folder / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mre(*words: object) -> None:
    assert cli.main([str(word) for word in words]) == 0, words


def main(folder: Path) -> None:
    table = write_table(folder)
    mre("prepare", "table", table, "--out", folder / "shards")
    mre("data", "verify", folder / "shards")
    make_tiny_editor(folder / "editor")
    config = write_config(folder / "config.yaml", folder / "editor", folder / "shards", steps=2)
    assert train(config, folder / "run") == 0
    mre("export", folder / "run", "--out", folder / "model")
    item = {"id": "a", "image": "original.png", "prompt": "make it snow"}
    (folder / "items.jsonl").write_text(json.dumps(item) + "\n")
    sampling = ("--steps", 1, "--size", "keep", "--reward", "5,5,5,4", "--low-reward", "0,0,0,0")
    mre("sample", folder / "items.jsonl", "--model", folder / "model", *sampling,
        "--out", folder / "edits")  # fmt: skip
    rows = [row for name in scores.PERSPECTIVES for row in series([3] * 14, metric=name)]
    print(render(8, rows, systems={"Ours": Source("a")}, paper=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
