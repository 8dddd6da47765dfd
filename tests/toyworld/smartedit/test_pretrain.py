"""`mre toy-smartedit`: what it writes edits, whenever it was killed on the way."""

import json

import numpy as np
import pytest
from PIL import Image

from mre_jax.editing.pipeline import EditPipeline
from mre_jax.editing.request import EditConditions
from mre_jax.editing.settings import SamplingSettings
from mre_jax.errors import ConfigError
from mre_jax.toyworld.pretraining import trial
from mre_jax.toyworld.smartedit import pretrain as module
from mre_jax.toyworld.smartedit.pretrain import pretrain
from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.weights.opening import model_at
from tests.tiny_smartedit import tiny_smartedit

TINY = SmartEditRecipe(
    width=16,
    heads=2,
    llm_layers=1,
    llm_inner=16,
    rank=2,
    patch=16,
    vision_layers=1,
    vision_inner=16,
    qformer_layers=1,
    qformer_inner=16,
    bim_inner=16,
    language_steps=2,
    caption_steps=2,
    instruction_steps=2,
    edit_steps=2,
    bim_steps=3,
    batch=8,
    examples=8,
    flawed_examples=8,
)


def tensors(folder):
    with model_at(folder) as model:
        return {
            (name, key): part.source.read(key)
            for name, part in model.components.items()
            for key in part.source.tensors
        }


@pytest.mark.slow
def test_a_tiny_recipe_gives_a_smartedit_that_edits_and_a_kill_costs_one_part(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(trial, "_SCENES", 1)
    trained, train = [], module.train

    def killed(config, run):
        if config.name == "stage2a" and "stage2a" not in trained:
            trained.append(config.name)
            raise KeyboardInterrupt
        trained.append(config.name)
        return train(config, run)

    monkeypatch.setattr(module, "train", killed)
    out = tmp_path / "editor"
    with pytest.raises(KeyboardInterrupt):
        pretrain(TINY, out, editor=tiny_smartedit())
    before = tensors(out / "unfinished" / "models" / "stage1_pictured")
    scores = pretrain(TINY, out, editor=tiny_smartedit())
    assert trained == ["stage1", "stage1_pictured", "stage2a", "stage2a", "stage2b"]
    assert not (out / "unfinished").exists()

    record = json.loads((out / "recipe.json").read_text())
    assert record["recipe"]["bim_steps"] == TINY.bim_steps
    assert record["scores"]["mean"] == scores
    assert {"describing", "repeating", "examples"} == set(record["language"][-1])
    assert "alignment_loss" in record["stages"]["stage1_pictured"]
    assert "diffusion_loss" in record["stages"]["stage2b"]

    after = tensors(out)
    assert {array.dtype for array in after.values()} == {np.dtype(np.float16)}
    assert after.keys() == before.keys()
    moved = {
        component
        for (component, name), array in after.items()
        if not np.array_equal(array, before[component, name].astype(np.float16))
    }
    assert moved == {"unet", "llm", "qformer", "bim"}

    pipeline = EditPipeline.from_pretrained(out)
    photo = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None], (64, 1, 3)))
    request = EditConditions().request("make it night", id="one")
    (edit,) = pipeline.edit([request], [photo], SamplingSettings(2))
    assert edit.size == photo.size
    assert not np.array_equal(np.asarray(edit), np.asarray(photo))


def test_a_folder_begun_with_another_recipe_is_refused(tmp_path):
    work = tmp_path / "unfinished"
    work.mkdir()
    (work / "recipe.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"was begun with other settings: .*bim_steps was None"):
        pretrain(TINY, tmp_path)
