"""The toy SmartEdit's stages: what each reads and trains, as SmartEdit's own do."""

from pathlib import Path

import pytest

from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.toyworld.smartedit.stages import stage_config, stages

RECIPE = SmartEditRecipe()


@pytest.fixture(scope="module")
def configs():
    """Which the configuration's own checks have passed."""
    places = {"size": 24, "in_channels": 48, "templates": Path("templates.txt")}
    return {
        stage.name: stage_config(RECIPE, stage, Path("model"), Path("sets"), **places)
        for stage in stages(RECIPE)
    }


def test_stage_1_is_the_official_one_and_goes_on_beside_pictures(configs):
    first, second = configs["stage1"], configs["stage1_pictured"]
    assert (first.loss.objective, first.data.paths) == ("captions", ("sets/captions.txt",))
    assert set(first.model.trained) == {"qformer", "new_tokens"}
    assert (second.loss.objective, second.data.paths) == ("instructions", ("sets/ideal",))
    assert second.steps > first.steps


def test_stage_2_learns_edits_and_ends_on_flawed_ones(configs):
    last = configs["stage2b"]
    assert configs["stage2a"].data.paths == ("sets/ideal",)
    assert last.data.paths == ("sets/flawed",)
    assert {"unet", "bim", "adapters"} <= set(last.model.trained)
    assert "bim" not in configs["stage2a"].model.trained


def test_no_picture_is_mirrored_and_all_stages_have_the_same_words(configs):
    assert {config.data.flip for config in configs.values()} == {0}
    assert {config.data.templates for config in configs.values()} == {"templates.txt"}
    assert {config.data.text_tokens for config in configs.values()} == {RECIPE.text_tokens}
