"""What a file holds that is no Stable Diffusion 1.x, by the names of its tensors."""

import re
from collections.abc import Mapping

from mre_jax.weights.files.source import TensorInfo

EMBEDDING = "a textual inversion embedding, which this program does not use"


def what_is(tensors: Mapping[str, TensorInfo]) -> str | None:
    """What these tensors are known to be, and what to do with them; None for anything else."""
    for pattern, kind in _KINDS:
        if any(map(pattern.search, tensors)):
            return kind
    if _is_embedding(tensors):
        return EMBEDDING
    return next(filter(None, map(_FAMILIES.get, context_widths(tensors))), None)


def context_widths(tensors: Mapping[str, TensorInfo]) -> set[int]:
    """How wide the text is that the attention of these tensors, if there is any, reads."""
    return {
        info.shape[1]
        for name, info in tensors.items()
        if name.endswith(_CONTEXT) and len(info.shape) == 2
    }


def _is_embedding(tensors: Mapping[str, TensorInfo]) -> bool:
    """A few rows as wide as a text encoder, each under the token that stands for it."""
    return 0 < len(tensors) <= 8 and all(
        "." not in name and len(info.shape) in (1, 2) and info.shape[-1] in _TEXT_WIDTHS
        for name, info in tensors.items()
    )


_TEXT_WIDTHS = (768, 1024, 1280)
_CONTEXT = ("attn2.to_k.weight", "attn2.to_v.weight")
_FAMILIES = {
    1024: "a Stable Diffusion 2",
    1280: "the refiner of a Stable Diffusion XL",
    2048: "a Stable Diffusion XL",
}
_KINDS = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"^(string_to_param|emb_params)", EMBEDDING),
        (r"^control_model\.|controlnet_|(^|\.)input_hint_block\.", "a ControlNet, no editor"),
        (r"^(image_proj|ip_adapter)\.", "an IP-Adapter, no editor"),
        (r"^(adapter\.)?body\.\d+\.", "a T2I-Adapter, no editor"),
        (r"motion_modules\.", "a motion module, no editor"),
        (r"(^|\.)(double_blocks|single_blocks|single_transformer_blocks)\.", "a Flux"),
        (r"(^|\.)joint_blocks\.|\.attn\.add_[qkv]_proj\.", "a Stable Diffusion 3"),
        (r"^conditioner\.embedders\.|(^|\.)label_emb\.", "a Stable Diffusion XL"),
        (r"^cond_stage_model\.model\.", "a Stable Diffusion 2"),
        (r"time_embedding\.cond_proj\.", "a latent consistency model, which is guided otherwise"),
        (r"^class_embedding\.", "a UNet with classes, as an upscaler or unCLIP has"),
        (r"(^|\.)block\.\d+\.layer\.\d+\.(SelfAttention|DenseReluDense)\.", "a T5"),
        (r"^concept_embeds", "a safety checker"),
        (r"^(vision_model\.|visual\.|embeddings\.patch_embedding\.)", "a CLIP for pictures"),
        (r"^decoder\.condition_encoder\.", "an asymmetric VAE, for inpainting"),
        (r"^quantize\.", "a VQ-VAE"),
        (r"^((en|de)coder\.layers\.)?\d+\.conv\.\d\.", "a tiny VAE (TAESD)"),
        (r"^decoder_unet\.", "a consistency decoder"),
    )
)
