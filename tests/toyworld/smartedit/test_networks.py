"""The toy SmartEdit's sizes: what a model folder of the default recipe will weigh."""

import jax
import pytest
from flax import nnx

from mre_jax.models.bim import BIM
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.qformer import QFormer
from mre_jax.toyworld import EDITOR
from mre_jax.toyworld.smartedit.networks import Sizes, Speaker
from mre_jax.toyworld.smartedit.pretrain import TEMPLATES
from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.weights.opening import model_at

HEADERS = 60_000
"""Bytes for configurations, names of tensors and recipe.json."""


@pytest.fixture(scope="module")
def sizes(tokenizer):
    with model_at(EDITOR) as editor:
        parts = {name: part.settings for name, part in editor.components.items()}
    return Sizes.of(SmartEditRecipe(), tokenizer.size, 24, parts["unet"], parts["text_encoder"])


def build(sizes):
    made = {"compute": Compute(), "rngs": make_rngs(0)}
    adapted = LlamaForCausalLM(sizes.llm, sizes.lora, **made)
    speaker = Speaker(sizes, seed=0)
    joined = QFormer(sizes.qformer, **made), BIM(sizes.bim, **made)
    return adapted, speaker.vision, speaker.projector, *joined


def test_a_model_folder_stays_below_8_mb(sizes, model):
    modules = nnx.eval_shape(lambda: build(sizes))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(modules)))
    shipped = sum(file.stat().st_size for file in EDITOR.rglob("*") if file.is_file())
    assert count < 700_000
    assert shipped + 2 * count + len(model) + TEMPLATES.stat().st_size + HEADERS < 8_000_000


def test_the_parts_fit_each_other_and_the_toy_editor(sizes):
    """As opening a model folder asks; the numbers are the toy editor's."""
    assert sizes.qformer.query_length == 36
    assert sizes.qformer.hidden_size == sizes.bim.text_width == 64
    assert sizes.bim.out_channels == 48
    assert sizes.vision.num_positions == 1 + 16
    widths = {sizes.llm.hidden_size, sizes.projector.hidden_size, sizes.qformer.encoder_width}
    assert widths == {SmartEditRecipe.width}
