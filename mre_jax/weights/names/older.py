"""Names that earlier versions of diffusers and transformers gave to the same tensors."""

import re

from mre_jax.weights.files.source import TensorSource, renamed


def current_vae(source: TensorSource) -> TensorSource:
    """A VAE's tensors with the attention projections under their names of today."""
    return renamed(source, _vae_name)


def current_text_encoder(source: TensorSource) -> TensorSource:
    """A CLIP text encoder's tensors, with the `text_model.` prefix and without position numbers.

    transformers 5 saves without the prefix and loads both; every other reader wants it. The buffer
    `position_ids` is 0, 1, 2, ... and holds nothing.
    """
    return renamed(source, _text_encoder_name)


def _vae_name(name: str) -> str:
    return _VAE_ATTENTION.sub(lambda match: match[1] + _VAE_PROJECTIONS[match[2]], name)


def _text_encoder_name(name: str) -> str | None:
    if not name.startswith(_TEXT_PREFIX):
        name = _TEXT_PREFIX + name
    return None if name == f"{_TEXT_PREFIX}embeddings.position_ids" else name


_TEXT_PREFIX = "text_model."
_VAE_PROJECTIONS = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_VAE_ATTENTION = re.compile(r"(\.attentions\.\d+\.)(query|key|value|proj_attn)(?=\.)")
