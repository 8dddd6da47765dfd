"""The networks that stand before the toy SmartEdit's UNet: their sizes, and how they are joined."""

import dataclasses
from collections.abc import Mapping

from flax import nnx

from mre_jax.models.bim import BIM, BIMConfig
from mre_jax.models.clip_text import CLIPTextConfig
from mre_jax.models.clip_vision import CLIPPatchEncoder, CLIPVisionConfig
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig
from mre_jax.models.projector import Projector, ProjectorConfig
from mre_jax.models.qformer import QFormer, QFormerConfig
from mre_jax.models.smartedit_encoder import SmartEditEncoder
from mre_jax.models.unet_config import UNetConfig
from mre_jax.smartedit.instruction_encoder import TEMPLATES_FILE, TOKENIZER_FILE
from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.training.state import Network, parameters_of
from mre_jax.weights.load import Model

# A prompt where edits are made, 256 tokens beside the patches, and a reply that is sampled.
_POSITIONS = 512
_BIM_DEPTH = 2


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Configurations of a recipe's networks before the UNet of an editor.

    Attributes:
        lora: of the adapters, which the language model has from stage 1 on.
    """

    llm: LlamaConfig
    lora: LoRAConfig
    vision: CLIPVisionConfig
    projector: ProjectorConfig
    qformer: QFormerConfig
    bim: BIMConfig

    @classmethod
    def of(
        cls,
        recipe: SmartEditRecipe,
        vocabulary: int,
        pixels: int,
        unet: UNetConfig,
        text: CLIPTextConfig,
    ) -> "Sizes":
        """Those that fit together, and fit the editor.

        Args:
            vocabulary: of the language model.
            pixels: along a side of the editor's pictures, which the vision tower sees as they are.
            unet, text: of the editor.
        """
        width, heads = recipe.width, recipe.heads
        return cls(
            llm=LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=width,
                intermediate_size=recipe.llm_inner,
                num_hidden_layers=recipe.llm_layers,
                num_attention_heads=heads,
                max_position_embeddings=_POSITIONS,
            ),
            # Nothing is dropped anywhere: networks as small as these do not learn by heart.
            lora=LoRAConfig(r=recipe.rank, lora_alpha=2 * recipe.rank, lora_dropout=0.0),
            vision=CLIPVisionConfig(
                hidden_size=width,
                intermediate_size=recipe.vision_inner,
                num_hidden_layers=recipe.vision_layers + 1,  # the last is never run
                num_attention_heads=heads,
                projection_dim=width,
                image_size=pixels,
                patch_size=recipe.patch,
            ),
            projector=ProjectorConfig(width, width),
            qformer=QFormerConfig(
                query_length=text.max_position_embeddings,
                hidden_size=text.hidden_size,
                intermediate_size=recipe.qformer_inner,
                num_hidden_layers=recipe.qformer_layers,
                num_attention_heads=heads,
                encoder_width=width,
                dropout=0.0,
            ),
            bim=BIMConfig(
                text_width=text.hidden_size,
                embedding_dim=width,
                depth=_BIM_DEPTH,
                num_heads=heads,
                mlp_dim=recipe.bim_inner,
                out_channels=unet.block_out_channels[0],
            ),
        )


class Speaker(nnx.Module):
    """A language model without adapters, and what lets it see: what learns to speak of pictures."""

    def __init__(self, sizes: Sizes, *, seed: int):
        compute, rngs = Compute(), make_rngs(seed)
        self.llm = LlamaForCausalLM(sizes.llm, compute=compute, rngs=rngs)
        self.vision = CLIPPatchEncoder(sizes.vision, compute=compute, rngs=rngs)
        self.projector = Projector(sizes.projector, compute=compute, rngs=rngs)


def composed(
    editor: Model, speaker: Speaker, sizes: Sizes, files: Mapping[str, bytes], *, seed: int
) -> Model:
    """A SmartEdit before its stage 1: an editor, a language model, and a fresh QFormer and BIM.

    It edits as its UNet does for states that mean nothing yet.

    Args:
        files: tokenizer and templates, by path in a model folder.
        seed: of adapters, QFormer and BIM.
    """
    compute, rngs = Compute(), make_rngs(seed)
    adapted = LlamaForCausalLM(sizes.llm, sizes.lora, compute=compute, rngs=rngs)
    weights = {**parameters_of(adapted), **parameters_of(speaker.llm)}
    encoder = SmartEditEncoder(
        Network.of(adapted).module(weights),
        speaker.vision,
        speaker.projector,
        QFormer(sizes.qformer, compute=compute, rngs=rngs),
        BIM(sizes.bim, compute=compute, rngs=rngs),
    )
    return dataclasses.replace(editor, files={**editor.files, **files}, instruction_encoder=encoder)


def small_files(tokenizer: bytes, templates: bytes) -> dict[str, bytes]:
    """Tokenizer and templates by their paths in a model folder."""
    return {TOKENIZER_FILE: tokenizer, TEMPLATES_FILE: templates}
