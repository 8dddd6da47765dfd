"""The layout of the original latent-diffusion code, in which InstructPix2Pix was published.

One file holds a whole model: the UNet under `model.diffusion_model.`, its moving average under
`model_ema.` with every dot of the name removed, the VAE under `first_stage_model.`, CLIP under
`cond_stage_model.transformer.`, and the noise schedule as buffers. Blocks are numbered through; the
names of diffusers are found from the numbers by rule, for any number of blocks. People also keep
a part alone, or leave one out.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import numpy as np

from mre_jax.errors import DataError
from mre_jax.weights.files.source import Change, TensorSource, View, renamed
from mre_jax.weights.names.aliases import current
from mre_jax.weights.names.strict import shortened
from mre_jax.weights.names.wrapped import ANCHORS, prefix_of, unwrapped

Rule = Callable[[str], str | None]


class CompVis(NamedTuple):
    """The networks of one file under diffusers' names; None for one that it does not hold.

    Attributes:
        weights: which of the two sets of UNet weights was taken, "ema" or "raw"; "only" where
            nothing shows.
        scaling_factor: factor on the latents; None when the file does not say.
        original: the UNet has the original's names.
        notes: what was left out or read under another name, for the user.
    """

    unet: TensorSource | None
    vae: TensorSource | None
    text_encoder: TensorSource | None
    weights: str
    scaling_factor: float | None
    original: bool
    notes: tuple[str, ...]

    @property
    def components(self) -> dict[str, TensorSource]:
        """The networks that are there, by name."""
        found = {"unet": self.unet, "vae": self.vae, "text_encoder": self.text_encoder}
        return {name: source for name, source in found.items() if source is not None}


def split(source: TensorSource, weights: str | None = None) -> CompVis:
    """The networks in a file: a whole model of the original layout, or some of its parts.

    Each part is found by one of its tensors, so that it may stand under the original prefix,
    another one or none, and under diffusers' names too.

    Args:
        weights: "ema" or "raw"; None takes the moving average where there is one, as the original
            sampling script does.

    Raises:
        DataError: when `weights` is "ema" and there is none, or it is incomplete, or a tensor
            belongs to no part that is known.
    """
    source, notes = unwrapped(source)
    parts, left = _parts(source)
    if not parts:
        raise DataError(
            f"{source.origin} holds no UNet, VAE or text encoder that is known here; it has "
            f"{shortened(list(source.tensors)) or 'no tensors'}"
        )
    found = {name for name in left if _is_average(name)}
    harmless = [name for name in left if _HARMLESS.fullmatch(name)]
    _refuse(source, left - found - set(harmless))
    if harmless:
        notes.append(f"{len(harmless)} tensors that are not used left out, as {min(harmless)}")
    unet, taken = parts.get("unet"), "only"
    original = unet is not None and _ORIGINAL_UNET in unet.tensors
    if unet is not None and original:
        raw = _ruled(unet, unet_rule)
        average, taken = _averaged(source, unet, found, weights)
        unet = raw if average is None else _ruled(average, unet_rule)
    elif weights == "ema":
        raise DataError(f"{source.origin} holds no EMA weights; leave --weights ema out")
    text_encoder = parts.get("text_encoder")
    return CompVis(
        unet=unet,
        vae=_vae(parts["vae"]) if "vae" in parts else None,
        text_encoder=None if text_encoder is None else current("text_encoder", text_encoder),
        weights=taken,
        scaling_factor=_scaling_factor(source),
        original=original,
        notes=tuple(notes),
    )


def unet_rule(names: Collection[str]) -> Rule:
    """Diffusers' name for each name under `model.diffusion_model.`; None for one that is unknown.

    Args:
        names: all of them, since the depth of a block shows only in the whole.
    """
    downsamplers = _numbers(names, r"input_blocks\.(\d+)\.0\.op\.weight$")
    inputs = _numbers(names, r"input_blocks\.(\d+)\.")
    # Block 0 is conv_in; a level is its ResNets and, but for the last level, a downsampler.
    layers = (min(downsamplers) if downsamplers else max(inputs, default=0) + 1) - 1
    return sized_unet_rule(layers, len(downsamplers) + 1)


def sized_unet_rule(layers: int, levels: int) -> Rule:
    """`unet_rule` for a UNet of `levels` levels of `layers` ResNets each."""
    per_level = layers + 1

    def name_of(name: str) -> str | None:
        for theirs, ours in _UNET_ENDS.items():
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        if match := _MIDDLE.fullmatch(name):
            place, leaf = match.groups()
            if place == "1":
                return f"mid_block.attentions.0.{leaf}"
            return _resnet(f"mid_block.resnets.{int(place) // 2}", leaf)
        if match := _BLOCK.fullmatch(name):
            direction, number, part, leaf = match.groups()
            kind, first = ("down", 1) if direction == "input" else ("up", 0)
            level, layer = divmod(int(number) - first, per_level)
            if 0 <= level < levels:
                return _in_block(f"{kind}_blocks.{level}", layer, part, leaf)
        return None

    return name_of


def vae_rule(names: Collection[str]) -> Rule:
    """Diffusers' name for each name under `first_stage_model.`; None for one that is unknown.

    Args:
        names: all of them, since the decoder numbers its levels from the other end.
    """
    last = max(_numbers(names, r"decoder\.up\.(\d+)\."), default=0)

    def name_of(name: str) -> str | None:
        if match := _VAE_LEVEL.fullmatch(name):
            half, direction, number, part, leaf = match.groups()
            level = int(number) if direction == "down" else last - int(number)
            block = f"{half}.{direction}_blocks.{level}"
            if part == f"{direction}sample":
                return f"{block}.{direction}samplers.0.{leaf}"
            return f"{block}.resnets.{part.removeprefix('block.')}.{_shortcut(leaf)}"
        if match := _VAE_MIDDLE.fullmatch(name):
            half, part, leaf = match.groups()
            if part == "attn_1":
                module, _, parameter = leaf.rpartition(".")
                module = _VAE_ATTENTION.get(module, module)
                return f"{half}.mid_block.attentions.0.{module}.{parameter}"
            resnet = int(part.removeprefix("block_")) - 1
            return f"{half}.mid_block.resnets.{resnet}.{_shortcut(leaf)}"
        if _VAE_ENDS.fullmatch(name):
            return name.replace(".norm_out.", ".conv_norm_out.")
        return None

    return name_of


def _parts(source: TensorSource) -> tuple[dict[str, View], set[str]]:
    """Each network with its names from where its prefix ends, and the names of no network."""
    prefixes = {}
    for anchor, component in _ANCHORS.items():
        prefix = prefix_of(source, anchor)
        if prefix is not None:
            prefixes[prefix] = component
    names: dict[str, dict[str, str]] = {component: {} for component in prefixes.values()}
    left = set()
    longest_first = sorted(prefixes, key=len, reverse=True)
    for stored in source.tensors:
        if stored in _BUFFERS:
            continue
        owner = next((prefix for prefix in longest_first if stored.startswith(prefix)), None)
        name = stored.removeprefix(owner or "")
        if owner is None or _is_average(stored) or _HARMLESS.fullmatch(name):
            left.add(name if _HARMLESS.fullmatch(name) else stored)
        else:
            names[prefixes[owner]][name] = stored
    return {component: View(source, found) for component, found in names.items()}, left


def _averaged(
    source: TensorSource, raw: View, found: set[str], weights: str | None
) -> tuple[View | None, str]:
    """The moving average of the UNet's tensors where it is wanted, and which of both is taken."""
    averages = {name: "model_ema.diffusion_model" + name.replace(".", "") for name in raw.tensors}
    if len(set(averages.values())) != len(averages):
        raise DataError(f"{source.origin}: two UNet tensors share one EMA name")
    _refuse(source, found - set(averages.values()))
    taken = weights or ("ema" if found else "raw")
    if taken == "raw":
        return None, taken
    _require_complete(source, set(averages.values()) - found)
    return View(source, averages), taken


def _vae(stored: View) -> TensorSource:
    if not any(name.startswith(("encoder.mid.", "decoder.mid.")) for name in stored.tensors):
        return current("vae", stored)
    vae = _ruled(stored, vae_rule)
    # The projections of attention are 1x1 convolutions there and dense layers here.
    changes = {
        name: Change(info.shape[:2], lambda weight: weight[:, :, 0, 0])
        for name, info in vae.tensors.items()
        if _VAE_PROJECTION.search(name) and len(info.shape) == 4
    }
    return View(vae, {name: name for name in vae.tensors}, changes)


def _ruled(part: View, rule_of: Callable[[Collection[str]], Rule]) -> View:
    """The tensors with the names that the rule made from all of them gives."""
    rule = rule_of(part.tensors)
    _refuse(part, [part.names[name] for name in part.tensors if rule(name) is None])
    return renamed(part, rule)


def _refuse(source: TensorSource, unknown: Collection[str]) -> None:
    if unknown:
        raise DataError(
            f"{source.origin} holds {len(unknown)} tensors that the original layout of SD1.x does "
            f"not have: {shortened(list(unknown))}"
        )


def _require_complete(source: TensorSource, missing: set[str]) -> None:
    if missing:
        raise DataError(
            f"{source.origin} lacks {len(missing)} EMA tensors, such as {min(missing)}; "
            "use --weights raw"
        )


def _is_average(name: str) -> bool:
    return name.startswith("model_ema.") and name not in _BUFFERS


def _scaling_factor(source: TensorSource) -> float | None:
    if "scale_factor" not in source.tensors:
        return None
    # Stored in float32: 0.18215 comes back with more digits than were meant.
    return float(f"{float(np.asarray(source.read('scale_factor')).reshape(())):.6g}")


def _numbers(names: Iterable[str], pattern: str) -> set[int]:
    return {int(match[1]) for name in names if (match := re.match(pattern, name))}


def _in_block(block: str, layer: int, part: str, leaf: str) -> str | None:
    if part == "0" and leaf.startswith("op."):
        return f"{block}.downsamplers.0.conv.{leaf.removeprefix('op.')}"
    if part != "0" and leaf.startswith("conv."):
        return f"{block}.upsamplers.0.{leaf}"
    if part == "0":
        return _resnet(f"{block}.resnets.{layer}", leaf)
    return f"{block}.attentions.{layer}.{leaf}" if part == "1" else None


def _resnet(block: str, leaf: str) -> str | None:
    module, _, parameter = leaf.rpartition(".")
    return f"{block}.{_RESNET[module]}.{parameter}" if module in _RESNET else None


def _shortcut(leaf: str) -> str:
    return leaf.replace("nin_shortcut.", "conv_shortcut.")


_ORIGINAL_UNET = "time_embed.0.weight"
_ANCHORS = {
    _ORIGINAL_UNET: "unet",
    ANCHORS["unet"]: "unet",
    ANCHORS["vae"]: "vae",
    ANCHORS["text_encoder"]: "text_encoder",
}

# What training and other programs leave beside the networks, and no edit reads.
_HARMLESS = re.compile(
    r"(.+\.)?(text_projection(\.weight)?|logit_scale)|loss\..+|embedding_manager\..+"
)

_BUFFERS = frozenset(
    (
        *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod"),
        *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
        *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance"),
        *("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
        *("lvlb_weights", "logvar", "scale_factor", "model_ema.decay", "model_ema.num_updates"),
    )
)

_UNET_ENDS = {
    "time_embed.0.": "time_embedding.linear_1.",
    "time_embed.2.": "time_embedding.linear_2.",
    "input_blocks.0.0.": "conv_in.",
    "out.0.": "conv_norm_out.",
    "out.2.": "conv_out.",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}

_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)")
_MIDDLE = re.compile(r"middle_block\.([012])\.(.+)")
_VAE_LEVEL = re.compile(
    r"(encoder|decoder)\.(down|up)\.(\d+)\.(block\.\d+|(?:down|up)sample)\.(.+)"
)
_VAE_MIDDLE = re.compile(r"(encoder|decoder)\.mid\.(attn_1|block_[12])\.(.+)")
_VAE_ENDS = re.compile(r"((encoder|decoder)\.(conv_in|norm_out|conv_out)|(post_)?quant_conv)\..+")
_VAE_PROJECTION = re.compile(r"\.attentions\.0\.to_.+\.weight$")
