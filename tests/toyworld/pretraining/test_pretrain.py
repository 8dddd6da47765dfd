"""`mre toy-pretrain`: what it writes loads, and what ships is what it says."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from mre_jax.editing.pipeline import EditPipeline
from mre_jax.errors import ConfigError
from mre_jax.toyworld import EDITOR
from mre_jax.toyworld.pretraining.pretrain import pretrain
from mre_jax.toyworld.pretraining.recipe import Recipe

TINY = Recipe(
    examples=32,
    vae_widths=(8, 8, 8),
    vae_steps=2,
    vae_batch=8,
    latent_channels=4,
    widths=(16, 16),
    text_width=16,
    text_layers=1,
    clean_steps=1,
    steps=2,
    batch=8,
)


@pytest.mark.slow
def test_a_tiny_recipe_gives_an_editor(tmp_path):
    pretrain(TINY, tmp_path / "editor")
    pipeline = EditPipeline.from_pretrained(tmp_path / "editor")
    record = json.loads((tmp_path / "editor" / "recipe.json").read_text())
    assert pipeline.unet.config.in_channels == 2 * TINY.latent_channels
    assert record["recipe"]["steps"] == TINY.steps
    assert [point["examples"] for point in record["curve"]] == [TINY.steps * TINY.batch]
    assert pipeline.schedule.prediction_type == TINY.prediction_type
    assert not (tmp_path / "editor" / "unfinished").exists()


def test_a_folder_begun_with_another_recipe_is_refused(tmp_path):
    work = tmp_path / "unfinished"
    work.mkdir()
    (work / "recipe.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"was begun with other settings: .*steps was None"):
        pretrain(TINY, tmp_path)


def test_what_ships_is_small_and_made_by_the_default_recipe():
    size = sum(file.stat().st_size for file in EDITOR.rglob("*") if file.is_file())
    record = json.loads((EDITOR / "recipe.json").read_text())
    recipe = json.loads(json.dumps(dataclasses.asdict(Recipe())))
    assert size < 8e6
    assert record["recipe"] == recipe


def test_what_ships_edits_in_pytorch_as_here():
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
        EDITOR, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    theirs.set_progress_bar_config(disable=True)
    theirs.scheduler = diffusers.DDIMScheduler.from_config(theirs.scheduler.config)
    photo = Image.fromarray(np.tile(np.arange(0, 240, 10, dtype=np.uint8)[:, None], (24, 1, 3)))
    unet = theirs.unet.config
    shape = (1, unet.sample_size, unet.sample_size, unet.out_channels)
    latents = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    noise = torch.from_numpy(latents).permute(0, 3, 1, 2)
    options = {"num_inference_steps": 2, "output_type": "np"}
    expected = theirs("make it night", photo, latents=noise, **options).images[0]
    ours = EditPipeline.from_pretrained(EDITOR)
    options["size"] = "keep"
    found = ours("make it night", photo, latents=latents, scheduler="ddim", **options).images[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
