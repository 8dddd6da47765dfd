"""Names that others give to the tensors of a network, and ours for them.

Earlier versions of diffusers and transformers had other names for some, and the public reward
checkpoint has.
"""

import re
from collections.abc import Callable, Mapping

from mre_jax.reward.config import RELEASED_NAMES
from mre_jax.weights.files.source import TensorSource, renamed


def current(component: str, source: TensorSource) -> TensorSource:
    """The tensors of a component under our names of today.

    transformers 5 saves a text encoder without the prefix `text_model.` and loads both; every other
    reader wants it. Its buffer `position_ids` is 0, 1, 2, ... and holds nothing.

    Args:
        component: "unet", "vae" or "text_encoder"; another has our names already.
    """
    return renamed(source, _CURRENT[component]) if component in _CURRENT else source


def to_released(name: str) -> str:
    """The public checkpoint's name of a tensor of our UNet in the released form."""
    return _replaced(name, RELEASED_NAMES)


def from_released(name: str) -> str:
    """Our name of a tensor of the public checkpoint: the inverse of `to_released`."""
    return _replaced(name, _OUR_NAMES)


def _replaced(name: str, table: Mapping[str, str]) -> str:
    for prefix, replacement in table.items():
        if name.startswith(f"{prefix}."):
            return replacement + name[len(prefix) :]
    return name


def _vae_name(name: str) -> str:
    return _VAE_ATTENTION.sub(lambda match: match[1] + _VAE_PROJECTIONS[match[2]], name)


def _text_encoder_name(name: str) -> str | None:
    name = _TEXT_PREFIX + name.removeprefix(_TEXT_PREFIX)
    return None if name == f"{_TEXT_PREFIX}embeddings.position_ids" else name


_OUR_NAMES = {released: ours for ours, released in RELEASED_NAMES.items()}
_TEXT_PREFIX = "text_model."
_VAE_PROJECTIONS = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_VAE_ATTENTION = re.compile(r"(\.attentions\.\d+\.)(query|key|value|proj_attn)(?=\.)")
_CURRENT: dict[str, Callable[[str], str | None]] = {
    "unet": from_released,
    "vae": _vae_name,
    "text_encoder": _text_encoder_name,
}
