import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.errors import ConfigError
from mre_jax.models.bim import BIM, resized
from mre_jax.models.clip_vision import CLIPPatchEncoder
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.projector import Projector
from mre_jax.models.qformer import QFormer
from mre_jax.models.smartedit_encoder import SmartEditEncoder
from tests.models.tiny_unet import channels_last, run
from tests.parity import load_torch, randomize_torch, relative_error, torch_shapes

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.models import smartedit_reference as reference  # noqa: E402
from tests.models.smartedit_sizes import LLAMA, LORA, PROJECTOR, VISION  # noqa: E402

# 16 patches at position 3 of one text and 2 of the other; 4 image tokens near the end.
IDS = np.random.default_rng(0).integers(1, 36, (2, 30))
START = np.array([3, 2])
POSITIONS = np.array([[22, 23, 24, 25], [24, 25, 26, 27]])
PIXELS = reference.normal(2, 16, 16, 3)


def _encoder(**changes):
    made = {"compute": Compute(), "rngs": make_rngs(0)}
    parts = {
        "llm": LlamaForCausalLM(LLAMA, LORA, **made),
        "vision": CLIPPatchEncoder(VISION, **made),
        "mm_projector": Projector(PROJECTOR, **made),
        "qformer": QFormer(reference.QFORMER, **made),
        "bim": BIM(reference.BIM, **made),
    }
    return SmartEditEncoder(**{**parts, **changes})


def test_the_whole_way_equals_pytorch():
    encoder = _encoder()
    llama = transformers.LlamaModel(
        transformers.LlamaConfig(**LLAMA.to_dict(), attn_implementation="eager")
    )
    clip = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION.to_dict()))
    project = torch.nn.Linear(32, 16)
    for module in (llama, clip, project):
        randomize_torch(module).eval()
    qformer, bim = reference.QFormerReference(), reference.BIMReference()

    weights = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    merged = dict(weights)
    for name in [name for name in torch_shapes(encoder.llm.model) if "lora_A" in name]:
        down = torch.from_numpy(reference.normal(2, 16, seed=len(weights)))
        up = torch.from_numpy(reference.normal(16, 2, seed=len(weights) + 1))
        weights[name], weights[name.replace("lora_A", "lora_B")] = down, up
        base = name.replace("lora_A.", "")
        merged[base] = merged[base] + 2 * (up @ down)
    llama.load_state_dict(merged)
    load_torch(encoder.llm.model, weights)
    names = torch_shapes(encoder.vision)
    stored = {f"vision_model.{name}": tensor for name, tensor in clip.state_dict().items()}
    load_torch(encoder.vision, {name: stored[name] for name in names})
    load_torch(encoder.mm_projector, project.state_dict())
    load_torch(encoder.qformer, qformer.official())
    load_torch(encoder.bim, bim.official())

    with torch.no_grad():
        pixels = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2))
        patches = clip(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        embeddings = llama.embed_tokens(torch.from_numpy(IDS))
        for row, start in enumerate(START):
            embeddings[row, start : start + 16] = project(patches[row])
        states = llama(inputs_embeds=embeddings).last_hidden_state
        taken = torch.stack([states[row, POSITIONS[row]] for row in range(2)])
        text = qformer(taken)
        change, features = bim(text, patches, 6, 8)
    inputs = map(jnp.asarray, (IDS, START, POSITIONS, PIXELS))
    got = run(encoder, *inputs, method="features")
    assert relative_error(got.text_states, text + 0.5 * change) < 1e-4
    assert relative_error(resized(got.image_features, 6, 8), channels_last(features)) < 1e-4


def test_parts_of_two_releases_are_refused():
    made = {"compute": Compute(), "rngs": make_rngs(0)}
    wide = QFormer(dataclasses.replace(reference.QFORMER, encoder_width=20), **made)
    with pytest.raises(ConfigError, match=r"qformer.encoder_width 20 .* width 16 of the llm"):
        _encoder(qformer=wide)
