"""`mre demo`: a PyTorch editor brought to JAX, and the same edits made by both.

    1. PyTorch makes a small InstructPix2Pix and saves it as a diffusers folder
    2. `mre convert --verify` brings it over
    3. both edit seven pictures of the toy world by seven instructions, from the same noise
    4. an editor with the paper's reward condition, likewise brought over, edits at several rewards

The weights are random, so an edit is texture and not sense. What it shows is that the whole way
works on this machine, that both frameworks give the same picture, and how long each takes.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mre_jax import compile_cache
from mre_jax.editing import grid
from mre_jax.editing.pipeline import EditPipeline
from mre_jax.editing.request import EditRequest
from mre_jax.editing.settings import SamplingSettings
from mre_jax.errors import ConfigError, MreError
from mre_jax.image import read_image, to_pil, write_png
from mre_jax.models.reward_config import RewardConfig
from mre_jax.toyworld.dataset import Settings, write_dataset
from mre_jax.toyworld.edits import TYPES
from mre_jax.weights.convert import convert

STEPS = 20
TOLERANCE = 1e-4
_SIDE = 144
_GAP = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre demo`."""
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="(%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the four parts, prints what came of each, and writes the pictures."""
    try:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        import diffusers  # noqa: F401
    except ImportError:
        raise ConfigError("the demo compares with PyTorch: pip install 'mre_jax[torch]'") from None
    compile_cache.enable()
    out: Path = args.out
    photos, prompts = _toy_photos(out / "toy")

    print("1. a small InstructPix2Pix, made by PyTorch")
    reference = _make_editor(out / "pytorch", None)
    print("2. brought to JAX, strictly: every tensor used once, and compared")
    _convert(out / "pytorch", out / "jax")
    print(f"3. {len(prompts)} edits by both, {STEPS} Euler steps from the same noise")
    theirs, ours = _edit_both(reference, EditPipeline.from_pretrained(out / "jax"), photos, prompts)
    difference = float(np.abs(theirs - ours).max())
    print(f"   largest difference of a pixel (0 to 1): {difference:.1e}")
    write_png(_sheet(photos, prompts, theirs, ours), out / "comparison.png")

    print("4. an editor with the paper's reward condition, at rewards 0, 3 and 5")
    _make_editor(out / "pytorch-reward", RewardConfig(score_width=32).to_dict())
    _convert(out / "pytorch-reward", out / "jax-reward")
    request = EditRequest(photos[0], prompts[0], id="demo")
    images = EditPipeline.from_pretrained(out / "jax-reward").edit(
        grid.requests(request, (0, 3, 5)), SamplingSettings(STEPS, "euler")
    )
    write_png(grid.draw(request, (0, 3, 5), images), out / "rewards.png")

    print(f"pictures: {out}/comparison.png, {out}/rewards.png")
    if not difference < TOLERANCE:
        raise MreError(f"the pictures differ by {difference:.1e}, more than {TOLERANCE:.0e}")
    return 0


def _toy_photos(folder: Path) -> tuple[list[Image.Image], list[str]]:
    """One picture and one instruction of each of the seven types."""
    write_dataset(folder, Settings(examples=1, benchmark=len(TYPES)), workers=1)
    asked = json.loads((folder / "benchmark" / "instructions.json").read_text())
    photos = [read_image(folder / "benchmark" / "images" / name) for name in asked]
    prompts = [lines[kind].split(": ", 1)[1] for kind, lines in enumerate(asked.values())]
    return photos, prompts


def _make_editor(folder: Path, reward: dict[str, Any] | None) -> Any:
    from mre_jax.pytorch.tiny_editor import make_tiny_editor

    return make_tiny_editor(folder, reward=reward)


def _convert(source: Path, target: Path) -> None:
    report = convert(source, target, verify=True, force=True)
    for name, counts in report["components"].items():
        errors = report["relative_error"].items()
        error = max(value for key, value in errors if key.startswith(name))
        print(f"   {name}: {counts['tensors']} tensors, relative difference {error:.1e}")


def _edit_both(
    reference: Any, pipeline: EditPipeline, photos: list[Image.Image], prompts: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [b H W 3] of PyTorch and of JAX, each from the same latents."""
    import torch
    from diffusers import EulerDiscreteScheduler

    reference.scheduler = EulerDiscreteScheduler.from_config(reference.scheduler.config)
    width, height = photos[0].size
    shape = (len(photos), height // 8, width // 8, 4)
    latents = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    options: dict[str, Any] = {"num_inference_steps": STEPS, "output_type": "np"}

    def in_pytorch() -> np.ndarray:
        noise = torch.from_numpy(latents).permute(0, 3, 1, 2)
        return reference(prompts, photos, latents=noise, **options).images

    def in_jax() -> np.ndarray:
        images = pipeline(prompts, photos, latents=latents, scheduler="euler", **options).images
        return np.stack(images)

    results = []
    for name, edit in (("PyTorch", in_pytorch), ("JAX", in_jax)):
        _, first = _timed(edit)
        pixels, again = _timed(edit)
        print(f"   {name}: {again:.2f} s, the first time {first:.2f} s")
        results.append(pixels)
    return results[0], results[1]


def _timed(function: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def _sheet(
    photos: list[Image.Image], prompts: list[str], theirs: np.ndarray, ours: np.ndarray
) -> Image.Image:
    """A row per edit: the original, PyTorch's picture, and ours."""
    font = ImageFont.load_default(14)
    row_height = _SIDE + 24 + _GAP
    sheet = Image.new("RGB", (3 * (_SIDE + _GAP) + _GAP, len(photos) * row_height + 28), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(("original", "PyTorch", "JAX")):
        pen.text((_GAP + column * (_SIDE + _GAP), 6), title, "black", font)
    for row, pictures in enumerate(
        zip(photos, map(to_pil, theirs), map(to_pil, ours), strict=True)
    ):
        top = 28 + row * row_height
        pen.text((_GAP, top), prompts[row], "black", font)
        for column, picture in enumerate(pictures):
            enlarged = picture.resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (_GAP + column * (_SIDE + _GAP), top + 20))
    return sheet
