"""What a LoRA file holds, layer by layer, in any of the layouts in which such files are shared.

A tensor's name is that of a layer and that of a part of its change. PEFT writes
`unet.conv_in.lora_A.weight`, diffusers `unet.conv_in.lora.down.weight` or, earlier,
`unet.mid_block...attn1.processor.to_q_lora.down.weight`, and kohya-ss's trainer
`lora_unet_conv_in.lora_down.weight`, whose layer has underscores for dots.
"""

import dataclasses
import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mre_jax.errors import DataError
from mre_jax.io.json_file import read_object
from mre_jax.weights.files.source import SafetensorsFile, TensorSource, is_floating, open_tensors
from mre_jax.weights.names.strict import shortened

FILE_NAMES = (
    *("pytorch_lora_weights.safetensors", "adapter_model.safetensors"),
    *("pytorch_lora_weights.bin", "adapter_model.bin"),
)
ADAPTER_CONFIG = "adapter_config.json"

Settings = Mapping[str, Any]


class Delta(NamedTuple):
    """The change of a layer's weight or bias.

    Attributes:
        leaf: "weight" or "bias".
        tensors: names in the file: "up", perhaps "mid", and "down" of a product; or the one of a
            change in full.
        shape: shape of the change.
        factor: what the change is multiplied by.
    """

    leaf: str
    tensors: tuple[str, ...]
    shape: tuple[int, ...]
    factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class Layer:
    """What changes of one layer.

    Attributes:
        name: the layer, as the file spells it.
        component: the network that the name states; None where it states none.
        key: the layer within the network, with underscores for dots.
        rank: inner size of the product; None if there is none.
        alpha: what the product is multiplied by, over the rank.
    """

    name: str
    component: str | None
    key: str
    deltas: tuple[Delta, ...]
    rank: int | None = None
    alpha: float | None = None


class LoraFile:
    """The layers of a file, each of its tensors in one of them.

    Args:
        path: a file, or the folder that a trainer wrote.

    Attributes:
        origin: the file, for error messages.

    Raises:
        DataError: when the file is damaged, of a kind that is not supported, or holds anything
            else than a LoRA.
    """

    def __init__(self, path: Path):
        self._source: TensorSource = open_tensors(_file(path))
        self.origin = self._source.origin
        self._settings = _settings(self._source)
        _refuse_kinds(self._source, self._settings)
        self.layers = [self._layer(*group) for group in _grouped(self._source).items()]

    def value(self, delta: Delta) -> np.ndarray:
        """The change in float32.

        Raises:
            DataError: when it is not finite.
        """
        value, *others = map(self._read, delta.tensors)
        if others:
            *middle, down = others
            for kernel in middle:
                down = np.einsum("omhw,mi->oihw", kernel, down.reshape(len(down), -1))
            value = value.reshape(len(value), -1) @ down.reshape(len(down), -1)
        return np.float32(delta.factor) * value.reshape(delta.shape)

    def _read(self, name: str) -> np.ndarray:
        array = self._source.read(name).astype(np.float32)
        if not np.isfinite(array).all():
            raise DataError(f"{self.origin}: {name} is not finite; fetch the file again")
        return array

    def _layer(self, name: str, tensors: dict[str, str]) -> Layer:
        component, inside = _located(name)
        shapes = self._shapes(tensors)
        whole = tuple(
            Delta(leaf, (tensors[leaf],), shapes[leaf])
            for leaf in ("weight", "bias")
            if leaf in tensors
        )
        if len(whole) == len(tensors):
            return Layer(name, component, flat(inside), whole)
        rank, shape = self._product(name, shapes)
        settings = _settings_of(component, self._settings)
        stored = tensors.get("alpha")
        stated = self._stated_alpha(inside, settings) if stored is None else self._number(stored)
        alpha = rank if stated is None else stated
        # Rank-stabilised LoRA (Kalajdzievski 2023) divides by the root.
        factor = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        names = tuple(tensors[part] for part in ("up", "mid", "down") if part in tensors)
        deltas = [Delta("weight", names, shape, factor)]
        if "up_bias" in tensors:
            deltas.append(Delta("bias", (tensors["up_bias"],), shapes["up_bias"], factor))
        return Layer(name, component, flat(inside), (*deltas, *whole), rank, alpha)

    def _shapes(self, tensors: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
        infos = {part: self._source.tensors[name] for part, name in tensors.items()}
        for part, info in infos.items():
            if part != "alpha" and not is_floating(info.dtype):
                raise DataError(
                    f"{self.origin}: {tensors[part]} is {info.dtype}, not floating-point; save the "
                    "LoRA in float16, bfloat16 or float32"
                )
        return {part: info.shape for part, info in infos.items()}

    def _product(
        self, layer: str, shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[int, tuple[int, ...]]:
        """The rank and shape of up @ down, or of up @ mid @ down for convolutions.

        Raises:
            DataError: when a part is missing, or they do not compose.
        """
        up, down, mid = (shapes.get(part, ()) for part in ("up", "down", "mid"))
        rank = down[0] if down else 0
        matrix_up = len(up) >= 2 and up[1] == rank > 0 and set(up[2:]) <= {1}
        matrix_down = len(down) >= 2 and set(down[2:]) <= {1}
        if matrix_up and len(down) >= 2 and "mid" not in shapes:
            return rank, (up[0], *down[1:])
        if matrix_up and matrix_down and len(mid) == 4 and mid[:2] == (rank, rank):
            return rank, (up[0], down[1], *mid[2:])
        parts = ", ".join(f"{part} {list(shape)}" for part, shape in shapes.items())
        raise DataError(
            f"{self.origin}: {layer} is no product of low rank (it has {parts}); fetch the file "
            "again"
        )

    def _number(self, name: str) -> float:
        array = self._read(name)
        if array.size != 1:
            raise DataError(f"{self.origin}: {name} is {list(array.shape)}, not a number")
        return float(array.reshape(()))

    def _stated_alpha(self, layer: str, settings: Settings) -> float | None:
        """PEFT's: that of the first pattern which ends the layer's name, or that of all layers."""
        try:
            for pattern, alpha in (settings.get("alpha_pattern") or {}).items():
                if re.match(rf"(.*\.)?({pattern})$", layer):
                    return float(alpha)
            alpha = settings.get("lora_alpha")
            return None if alpha is None else float(alpha)
        except (re.error, AttributeError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.origin}: its lora_alpha or alpha_pattern is damaged ({error})"
            ) from error


def flat(name: str) -> str:
    """A layer's name as kohya-ss writes it, with underscores for dots."""
    return name.replace(".", "_")


def is_lora(source: TensorSource) -> bool:
    """Whether these tensors are a LoRA's, or of one of its relatives."""
    return any(_LOW_RANK.fullmatch(name) or _KIND.search(name) for name in source.tensors)


def refuse_unmerged(source: TensorSource) -> None:
    """Refuses a network that was saved with adapters in its layers.

    Raises:
        DataError: since nothing in there says how strongly they act.
    """
    if any(".base_layer." in name for name in source.tensors):
        raise DataError(
            f"{source.origin} has the layers of an adapter between its own (base_layer, lora_A), "
            "and does not say how strongly they act; merge or unload them where they were trained, "
            "or save the adapter alone and give it with --lora"
        )


def lora_files(names: Collection[str]) -> list[str]:
    """Those of a folder's files that a LoRA is opened from: trainers' names before any other."""
    named = [name for name in FILE_NAMES if name in names]
    others = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    return [*(named[:1] or others), *({ADAPTER_CONFIG} & {*names})]


def _file(path: Path) -> Path:
    """The weight file that is meant by `path`."""
    if not path.is_dir():
        return path
    names = lora_files([file.name for file in path.iterdir()])
    found = [name for name in names if name != ADAPTER_CONFIG]
    if len(found) == 1:
        return path / found[0]
    holds = f"holds {shortened(found)}" if found else "holds no LoRA"
    raise DataError(f"{path} {holds}; name the LoRA's file")


def _settings(source: TensorSource) -> Settings:
    """PEFT's settings of the LoRA: from the file's header, or its `adapter_config.json`."""
    path = Path(source.origin)
    if isinstance(source, SafetensorsFile) and (text := source.metadata.get(_HEADER_ENTRY)):
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: {_HEADER_ENTRY} in its header is damaged") from error
    config = path.with_name(ADAPTER_CONFIG)
    is_peft = any(name.startswith(_PEFT_PREFIX) for name in source.tensors)
    if is_peft and not config.is_file():
        raise DataError(
            f"{path} is PEFT's and lacks {ADAPTER_CONFIG} beside it, which says how strongly it "
            "acts; give the folder with both"
        )
    return read_object(config) if is_peft else {}


def _settings_of(component: str | None, settings: Settings) -> Settings:
    """A network's own settings, which a file of several has under the network's name."""
    prefix = f"{component}."
    own = {k.removeprefix(prefix): value for k, value in settings.items() if k.startswith(prefix)}
    return own or settings


def _refuse_kinds(source: TensorSource, settings: Settings) -> None:
    kinds = {_KINDS[match[0]] for name in source.tensors if (match := _KIND.search(name))}
    for key, value in settings.items():
        word = key.rpartition(".")[2]
        if word == "peft_type" and value not in (None, "LORA"):
            kinds.add(_PEFT_KINDS.get(value, str(value)))
        elif word == "use_dora" and value:
            kinds.add("DoRA")
    if kinds:
        raise DataError(
            f"{source.origin} is {' and '.join(sorted(kinds))}, which cannot be merged here; a "
            "plain LoRA can: merge it with the tool that made it, and take the model"
        )


def _grouped(source: TensorSource) -> dict[str, dict[str, str]]:
    """The tensors by layer and part."""
    grouped: dict[str, dict[str, str]] = {}
    unknown = []
    for name in source.tensors:
        layer, part = _split(name)
        if part is None or part in grouped.get(layer, {}):
            unknown.append(name)
        else:
            grouped.setdefault(layer, {})[part] = name
    if unknown:
        raise DataError(
            f"{source.origin} holds {len(unknown)} tensors that are no part of a LoRA: "
            f"{shortened(unknown)}; merge it with the tool that made it, and take the model"
        )
    return grouped


def _split(name: str) -> tuple[str, str | None]:
    """A tensor's layer and part; None for a part that no LoRA has."""
    if match := _LOW_RANK.fullmatch(name):
        return match["layer"], _PARTS.get(match["part"] + match["leaf"])
    if match := _OTHER.fullmatch(name):
        return match["layer"], _PARTS[match["part"]]
    return name, None


def _located(name: str) -> tuple[str | None, str]:
    """The network that a layer's name states, and its name in there."""
    name = name.removeprefix(_PEFT_PREFIX).replace(".processor.", ".")
    for prefix, component in _PREFIXES.items():
        if name.startswith(prefix):
            return component, name.removeprefix(prefix)
    return None, name


_HEADER_ENTRY = "lora_adapter_metadata"
_PEFT_PREFIX = "base_model.model."
_PREFIXES: dict[str, str | None] = {
    "lora_unet_": "unet",
    "unet.": "unet",
    "model.diffusion_model.": "unet",
    "diffusion_model.": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    # LyCORIS without a trainer says nothing of the network.
    "lycoris_": None,
    "text_encoder.": "text_encoder",
    # What only other families of models have.
    "lora_te2_": "text_encoder_2",
    "text_encoder_2.": "text_encoder_2",
    "transformer.": "transformer",
}

# PEFT may put the adapter's name before the last word.
_LOW_RANK = re.compile(
    r"(?P<layer>.+?)(?:[._]lora|\.lora_linear_layer)[._](?P<part>A|B|down|up|mid)"
    r"(?:\.[^.]+)?(?P<leaf>\.weight|\.bias)"
)
_OTHER = re.compile(r"(?P<layer>.+)\.(?P<part>alpha|diff|diff_b|w_norm|b_norm)")
_PARTS = {
    **dict.fromkeys(("A.weight", "down.weight"), "down"),
    **dict.fromkeys(("B.weight", "up.weight"), "up"),
    **dict.fromkeys(("B.bias", "up.bias"), "up_bias"),
    "mid.weight": "mid",
    "alpha": "alpha",
    # LyCORIS's changes in full; the second of each pair is a normalisation's.
    **dict.fromkeys(("diff", "w_norm"), "weight"),
    **dict.fromkeys(("diff_b", "b_norm"), "bias"),
}

# Words that begin a part of a change that is no product of two matrices.
_KINDS = {
    "hada": "LoHa",
    "lokr": "LoKr",
    "dora": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "oft": "OFT",
    "boft": "BOFT",
    "ia3": "IA3",
    "on_input": "IA3",
    "vera": "VeRA",
    "lora_embedding": "a LoRA of an embedding table",
}
_PEFT_KINDS = {kind.upper(): kind for kind in _KINDS.values()}
_KIND = re.compile(rf"(?<=\.)({'|'.join(_KINDS)})(?=[._]|$)")
