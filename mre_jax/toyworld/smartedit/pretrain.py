"""The small SmartEdit of the toy world, made of the toy editor.

    OUT/             a model folder: the toy editor's parts as they are now, and what SmartEdit has
                     before its UNet
    OUT/recipe.json  what made it, how long it took, the exact judges' scores of its edits, the
                     language model's learning curve, and what each stage came to

A language model learns to speak of pictures, and the stages of SmartEdit follow. Run again after a
kill it goes on where it was.
"""

import dataclasses
import functools
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from mre_jax.data.batches.loader import require_data_extra
from mre_jax.editing.pipeline import EditPipeline
from mre_jax.errors import ConfigError
from mre_jax.io.begun_folder import begin
from mre_jax.io.files import locked, write_atomically
from mre_jax.io.growing_file import rows_so_far
from mre_jax.smartedit.prompt import PromptSizes, PromptWriter
from mre_jax.smartedit.templates import Templates
from mre_jax.smartedit.tokenizer import Tokenizer
from mre_jax.toyworld import EDITOR
from mre_jax.toyworld.pretraining.fit import Observed
from mre_jax.toyworld.pretraining.record import RECIPE, mean_scores, write_record
from mre_jax.toyworld.pretraining.trial import try_editor
from mre_jax.toyworld.smartedit.language import DESCRIBE, REPEAT, train_speaker
from mre_jax.toyworld.smartedit.networks import Sizes, Speaker, composed, small_files
from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.toyworld.smartedit.sets import texts, write_sets
from mre_jax.toyworld.smartedit.stages import stage_config, stages
from mre_jax.toyworld.smartedit.tokenizer import tokenizer_model
from mre_jax.training.config import TrainConfig
from mre_jax.training.export import ExportSpec, export
from mre_jax.training.state import Network
from mre_jax.training.train import train
from mre_jax.weights.load import Model, load_model
from mre_jax.weights.opening import model_at
from mre_jax.weights.save import save_model

TEMPLATES = Path(__file__).parent / "templates.txt"
"""Those of all stages: a few short ones, as every token costs."""

_WORK = "unfinished"


def pretrain(
    recipe: SmartEditRecipe,
    out: Path,
    *,
    editor: Path = EDITOR,
    say: Callable[[str], object] = lambda line: print(line, file=sys.stderr, flush=True),
) -> dict[str, float]:
    """Makes the SmartEdit, or what is missing of it, in a folder.

    Args:
        editor: an InstructPix2Pix of the toy world, whose UNet is trained further.
        say: called with a line when a part is done.

    Returns:
        The exact judges' mean score of its edits by perspective.

    Raises:
        ConfigError: if the folder holds the beginnings of another recipe, or a batch does not
            divide over the devices; or if the extra `smartedit` or `data` is not installed.
    """
    if recipe.batch % jax.device_count():
        raise ConfigError(f"batch must be a multiple of the {jax.device_count()} devices")
    require_data_extra()
    work = out / _WORK
    work.mkdir(parents=True, exist_ok=True)
    with locked(work, ".lock"):
        begin(work / RECIPE, dataclasses.asdict(recipe), remedy="remove it, or take its recipe")
        began = time.monotonic()
        start = load_model(editor)
        pixels = start.vae.config.sample_size
        model = work / "models" / "fresh"
        spoken = _once(work, "language", lambda: _speak(recipe, start, pixels, work, model))
        write_sets(recipe, model, pixels, work / "sets")
        results = {}
        for stage in stages(recipe):
            config = stage_config(
                recipe,
                stage,
                model,
                work / "sets",
                size=pixels,
                in_channels=start.unet.config.in_channels,
                templates=TEMPLATES,
            )
            model = work / "models" / stage.name
            results[stage.name] = _once(
                work, stage.name, functools.partial(_train, config, work / "runs", model)
            )
            say(f"{stage.name}: {results[stage.name]}")
        _finish(model, work, out)
        scores = try_editor(EditPipeline.from_pretrained(out), pixels)
        seconds = time.monotonic() - began
        found = {"language": spoken, "stages": results}
        write_record(out, "mre toy-smartedit", recipe, seconds, scores, **found)
    shutil.rmtree(work)
    return mean_scores(scores)


def tokenizer_texts(seed: int) -> list[str]:
    """All that the language model is to read in whole words.

    Args:
        seed: of the recipe.
    """
    asked, described = texts(seed)
    templates = Templates.read(TEMPLATES)
    around = [text for pair in templates.pairs for text in (pair.human, pair.gpt)]
    return [*asked, *described, *around, templates.system, "USER: ASSISTANT:", DESCRIBE, REPEAT]


def _once(work: Path, name: str, do: Callable[[], Any]) -> Any:
    """What `do` gives, a JSON value, or what it gave an earlier start."""
    path = work / "results" / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(do(), indent=1) + "\n")
    return json.loads(path.read_text())


def _speak(
    recipe: SmartEditRecipe, editor: Model, pixels: int, work: Path, model: Path
) -> list[Observed]:
    """Trains the language model, and writes the model before stage 1; returns its curve."""
    templates = Templates.read(TEMPLATES)
    data = tokenizer_model(tokenizer_texts(recipe.seed))
    tokenizer = Tokenizer(data)
    sizes = Sizes.of(recipe, tokenizer.size, pixels, editor.unet.config, editor.text_encoder.config)
    window = PromptSizes(recipe.text_tokens, sizes.vision.num_positions - 1)
    speaker = Speaker(sizes, seed=recipe.seed)
    fitted = train_speaker(
        recipe, speaker, PromptWriter(tokenizer, templates, window), work / "language"
    )
    trained: Speaker = Network.of(speaker).module(fitted.params)
    files = small_files(data, templates.text.encode())
    made = composed(editor, trained, sizes, files, seed=recipe.seed + 1)
    save_model(made, model, force=True)
    return fitted.curve


def _train(config: TrainConfig, runs: Path, model: Path) -> dict[str, Any]:
    """Runs a stage, or the rest of it, and writes its model; returns its last losses and scores."""
    run = runs / config.name
    train(config, run)
    export(ExportSpec(str(run), str(model), force=True))
    last = rows_so_far(run / "metrics.jsonl")[-1]
    found = {name: round(last[name], 4) for name in last if name.endswith("_loss")}
    if config.loss.objective == "captions":  # of prompts with pictures nothing is known yet
        return found
    scores = try_editor(EditPipeline.from_pretrained(model), config.data.resolution)
    return {**found, "scores": mean_scores(scores)}


def _finish(model: Path, work: Path, out: Path) -> None:
    """Brings the last stage's model to its place."""
    with model_at(model) as opened:
        # Half the bytes; a weight's rounding is far below what another seed would change.
        save_model(opened, work / "model", dtype="float16", force=True)
    for part in (work / "model").iterdir():
        place = out / part.name
        if place.is_dir():
            shutil.rmtree(place)
        part.rename(place)
