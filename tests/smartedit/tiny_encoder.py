"""SmartEdit's encoder at a size for tests, with no weight at zero."""

import jax
from flax import nnx

from mre_jax.models.bim import BIM, BIMConfig
from mre_jax.models.clip_vision import CLIPPatchEncoder, CLIPVisionConfig
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig
from mre_jax.models.projector import Projector, ProjectorConfig
from mre_jax.models.qformer import QFormer, QFormerConfig
from mre_jax.models.smartedit_encoder import SmartEditEncoder
from mre_jax.smartedit.instruction_encoder import TEMPLATES_FILE, TOKENIZER_FILE
from mre_jax.smartedit.templates import Pair, Templates
from tests.smartedit.tiny_tokenizer import tiny_model, tiny_tokenizer

TEMPLATES = Templates(
    "A chat with an assistant that says <img>.",
    (
        Pair("Please change the picture [cap].", "Sure, here is the new picture [img]."),
        Pair("Edit this image, [cap]!", "Of course [img]."),
    ),
)
IMAGE_TOKENS = 4
SIDE = 16
PATCHES = 16
TEXTS = 7
CHANNELS = 8


def tiny_encoder(seed: int = 0) -> SmartEditEncoder:
    """16 px, 16 patches, 4 image tokens, 7 text states of width 12, v' of 8 channels."""
    made = {"compute": Compute(), "rngs": make_rngs(seed)}
    llama = LlamaConfig(
        vocab_size=tiny_tokenizer(IMAGE_TOKENS).size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=260,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=4,
    )
    qformer = QFormerConfig(
        query_length=TEXTS,
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=3,
        num_attention_heads=3,
        encoder_width=16,
    )
    bim = BIMConfig(text_width=12, embedding_dim=32, num_heads=2, mlp_dim=48, out_channels=CHANNELS)
    encoder = SmartEditEncoder(
        LlamaForCausalLM(llama, LoRAConfig(r=2, lora_alpha=4), **made),
        CLIPPatchEncoder(vision, **made),
        Projector(ProjectorConfig(mm_hidden_size=32, hidden_size=16), **made),
        QFormer(qformer, **made),
        BIM(bim, **made),
    )
    return spread(encoder, seed)


def spread(module: nnx.Module, seed: int = 0) -> nnx.Module:
    """Moves every weight by a little, so that none is 0, which would hide a fault."""
    state = nnx.state(module, nnx.Param)
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [
        leaf + 0.2 * jax.random.normal(key, leaf.shape, leaf.dtype)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    nnx.update(module, jax.tree.unflatten(tree, moved))
    return module


def tiny_files(templates: Templates | None = TEMPLATES) -> dict[str, bytes]:
    """The small files of a model folder that the encoder needs."""
    own = {} if templates is None else {TEMPLATES_FILE: templates.text.encode()}
    return {TOKENIZER_FILE: tiny_model(), **own}
