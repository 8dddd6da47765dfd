"""The small editor of the toy world, made from nothing.

    OUT/             a diffusers folder that PyTorch loads: tokenizer, text encoder, VAE, UNet
    OUT/recipe.json  what made it, how long it took, the exact judges' scores of its edits, and the
                     learning curve: mean scores by examples seen

It plays InstructPix2Pix's part: an editor that knows the words from clean examples and was then
trained on flawed triplets, without rewards. Run again
after a kill it goes on where it was.
"""

import dataclasses
import io
import json
import shutil
import time
from pathlib import Path

import jax
import numpy as np

from mre_jax.editing.pipeline import EditPipeline
from mre_jax.errors import ConfigError
from mre_jax.io.begun_folder import begin
from mre_jax.io.files import locked, write_atomically
from mre_jax.io.processes import usable_cores
from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.unet import UNet
from mre_jax.models.vae import AutoencoderKL
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld.pretraining.autoencoder import encode, train_autoencoder
from mre_jax.toyworld.pretraining.editor import (
    Latents,
    noise_schedule,
    text_config,
    train_editor,
)
from mre_jax.toyworld.pretraining.examples import Examples, all_texts, draw_examples
from mre_jax.toyworld.pretraining.fit import Observed
from mre_jax.toyworld.pretraining.recipe import Recipe
from mre_jax.toyworld.pretraining.record import RECIPE, mean_scores, write_record
from mre_jax.toyworld.pretraining.tokenizer import tokenizer_files
from mre_jax.toyworld.pretraining.trial import try_editor
from mre_jax.weights.load import Model
from mre_jax.weights.save import save_model
from mre_jax.weights.tokens import Tokenizer

_WORK = "unfinished"


def pretrain(recipe: Recipe, out: Path) -> dict[str, float]:
    """Makes the editor, or what is missing of it, in a folder.

    Returns:
        The exact judges' mean score of its edits by perspective.

    Raises:
        ConfigError: if the folder holds the beginnings of another recipe, or a batch does not
            divide over the devices.
    """
    devices = jax.device_count()
    if recipe.batch % devices or recipe.vae_batch % devices:
        raise ConfigError(f"batch and vae-batch must be multiples of the {devices} devices")
    work = out / _WORK
    work.mkdir(parents=True, exist_ok=True)
    with locked(work, ".lock"):
        begin(work / RECIPE, dataclasses.asdict(recipe), remedy="remove it, or take its recipe")
        began = time.monotonic()
        examples = draw_examples(recipe, usable_cores())
        pictures = np.concatenate([examples.original[: recipe.examples // 2], examples.edited])
        vae = train_autoencoder(recipe, pictures, work / "autoencoder")
        latents = _encoded(vae, examples, work)
        vae.config = dataclasses.replace(
            vae.config,
            scaling_factor=round(float(1 / np.std(latents.original, dtype=np.float64)), 4),
        )
        files = tokenizer_files(all_texts(examples), recipe.tokens)
        vocabulary = len(json.loads(files["tokenizer/vocab.json"]))
        tokenizer = Tokenizer.from_files(files, text_config(recipe, vocabulary))
        ends = {"bos_token_id": vocabulary - 2, "pad_token_id": vocabulary - 1}
        configs, files = {"text_encoder": ends}, files | _scheduler(recipe)

        def model_of(unet: UNet, text_encoder: CLIPTextModel) -> Model:
            return Model(unet, vae, text_encoder, files, configs, str(out), "only")

        def scores_of(unet: UNet, text_encoder: CLIPTextModel) -> Observed:
            pipeline = EditPipeline(model_of(unet, text_encoder))
            scores = try_editor(pipeline, recipe.size)
            following = dict(zip(EDIT_TYPES, scores[:, 0].round(2).tolist(), strict=True))
            return {**mean_scores(scores), "following_by_type": following}

        unet, text_encoder, curve = train_editor(
            recipe,
            latents,
            examples.instruction,
            tokenizer,
            vocabulary,
            vae.config.scaling_factor,
            work / "editor",
            scores_of,
        )
        model = model_of(unet, text_encoder)
        # Half the bytes; a weight's rounding is far below what another seed would change.
        for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
            shutil.rmtree(out / name, ignore_errors=True)
        save_model(model, work / "model", dtype="float16", force=True)
        for part in (work / "model").iterdir():
            part.rename(out / part.name)
        scores = try_editor(EditPipeline.from_pretrained(out), recipe.size)
        seconds = time.monotonic() - began
        write_record(out, "mre toy-pretrain", recipe, seconds, scores, curve=curve)
    shutil.rmtree(work)
    return mean_scores(scores)


def _encoded(vae: AutoencoderKL, examples: Examples, work: Path) -> Latents:
    """Latents of all pictures, kept in the folder for a next start."""
    arrays = []
    for name in Latents._fields:
        path = work / f"{name}.npy"
        if not path.exists():
            content = io.BytesIO()
            np.save(content, encode(vae, getattr(examples, name)))
            write_atomically(path, content.getvalue())
        arrays.append(np.load(path))
    return Latents(*arrays)


def _scheduler(recipe: Recipe) -> dict[str, bytes]:
    schedule = noise_schedule(recipe).to_dict()
    config = {"_class_name": "EulerAncestralDiscreteScheduler", **schedule}
    return {"scheduler/scheduler_config.json": (json.dumps(config, indent=2) + "\n").encode()}
