"""LoRA: low-rank changes of layers (Hu et al. 2021), merged into a model's weights as they load.

    W' = W + scale * alpha / r * up @ down

in float32, where a convolution's kernel is the matrix [out, in * h * w]. The changes of all files
are summed, rounded once to the dtype of W, and computed when W is read, so that merging needs the
memory of one tensor.
"""

import contextlib
import functools
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mre_jax.errors import ConfigError, DataError
from mre_jax.weights.files.source import WEIGHT_SUFFIXES, Change, TensorSource, View
from mre_jax.weights.locate import local_path
from mre_jax.weights.lora_file import Delta, Layer, LoraFile, flat, lora_files
from mre_jax.weights.names.aliases import to_released
from mre_jax.weights.names.compvis import sized_unet_rule
from mre_jax.weights.names.strict import Faults

LoraLike = str | os.PathLike | tuple[str | os.PathLike, float]
"""FILE, FILE:SCALE, or a pair of both."""
Loras = str | os.PathLike | Sequence[LoraLike]


class Lora(NamedTuple):
    """A LoRA file and how strongly it acts.

    Attributes:
        path: a file or a trainer's folder; local, `org/name@REVISION/FILE` or `gs://...`.
        scale: 1 is as it was trained, 0 leaves the model as it is, -1 is the opposite.
    """

    path: str
    scale: float = 1.0


class OpenedLora(NamedTuple):
    """A LoRA whose file is at hand."""

    spec: Lora
    file: LoraFile


def parse_loras(given: Loras) -> tuple[Lora, ...]:
    """LoRA files as a caller or the command line names them.

    Raises:
        ConfigError: for a scale that is not a finite number, or for something else than `LoraLike`.

    Example:
        >>> parse_loras(["style.safetensors:0.5", ("org/name@REVISION/x.safetensors", -1)])[0]
        Lora(path='style.safetensors', scale=0.5)
    """
    return tuple(map(_parsed, [given] if isinstance(given, (str, os.PathLike)) else given))


@contextlib.contextmanager
def opened_loras(loras: Sequence[Lora]) -> Iterator[list[OpenedLora]]:
    """The files of `loras`, valid inside the `with`.

    Raises:
        DataError: when one is missing, damaged, or no LoRA of a supported kind.
    """
    with contextlib.ExitStack() as stack:
        paths = [stack.enter_context(local_path(lora.path, lora_files)) for lora in loras]
        yield [OpenedLora(lora, LoraFile(path)) for lora, path in zip(loras, paths, strict=True)]


def merge(
    sources: Mapping[str, TensorSource], loras: Sequence[OpenedLora], origin: str
) -> tuple[dict[str, TensorSource], list[str]]:
    """The networks of a model with LoRAs merged into them.

    Args:
        sources: tensors under our modules' names, by component. Layers that a file states to be
            of a component that is not among them are left aside.
        loras: in any order.
        origin: what an error message calls the model.

    Returns:
        The sources, and for each file a line that says what it changes.

    Raises:
        DataError: when a file changes nothing here, or a layer that these networks do not have, or
            one that has another shape.
    """
    networks = {name: _Network(name, sources[name]) for name in _SPELLINGS if name in sources}
    deltas: dict[str, dict[str, list[Callable[[], np.ndarray]]]] = {name: {} for name in sources}
    notes = []
    for spec, file in loras:
        placed = _placed(file, networks, origin)
        if not placed:
            raise DataError(f"{file.origin} changes nothing of {', '.join(sources)}; leave it out")
        notes.append(_note(spec, placed, left=len(file.layers) - len(placed)))
        # Adding a zero would turn -0 into 0.
        for (component, module), layer in placed.items() if spec.scale else ():
            for delta in layer.deltas:
                scaled = delta._replace(factor=spec.scale * delta.factor)
                value = functools.partial(file.value, scaled)
                deltas[component].setdefault(f"{module}.{delta.leaf}", []).append(value)
    files = " and ".join(spec.path for spec, _ in loras)
    merged = {name: _changed(source, deltas[name], files) for name, source in sources.items()}
    return merged, notes


class _Network:
    """The modules of a component, found under any name that LoRA files have for them."""

    def __init__(self, component: str, source: TensorSource):
        self.tensors = source.tensors
        modules = {name.rpartition(".")[0] for name in source.tensors}
        self._modules = {
            flat(spelling): module
            for module in modules
            for spelling in _SPELLINGS[component](module)
        }
        self._from_original = _original_keys(modules) if component == "unet" else None

    def find(self, key: str) -> str | None:
        """The module that is `key` but for underscores in place of dots."""
        if key not in self._modules and self._from_original is not None:
            key = self._from_original(key)
        return self._modules.get(key)

    def misfits(self, module: str, deltas: Iterable[Delta]) -> Iterator[str]:
        """Which of the changes have not the shape of what they change."""
        for delta in deltas:
            info = self.tensors.get(f"{module}.{delta.leaf}")
            if info is None:
                yield f"{module} has no {delta.leaf}"
            elif _matrix(delta.shape) != _matrix(info.shape):
                yield f"{module} is {list(delta.shape)}, not {list(info.shape)}"


def _parsed(entry: LoraLike) -> Lora:
    scale: str | float
    if isinstance(entry, (str, os.PathLike)):
        path, scale = _split(os.fspath(entry))
    elif isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], (str, os.PathLike)):
        path, scale = os.fspath(entry[0]), entry[1]
    else:
        raise ConfigError(f"lora {entry!r} is neither FILE, nor FILE:SCALE, nor a pair of both")
    try:
        value = float(scale)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"lora {path}: its scale {scale!r} is not a finite number")
    return Lora(path, value)


def _split(text: str) -> tuple[str, str]:
    """File and scale; a colon may as well be the file's, as in gs:// and after a drive."""
    path, colon, scale = text.rpartition(":")
    is_name = re.search(r"[/\\]", scale) or scale.endswith(WEIGHT_SUFFIXES)
    if not colon or is_name or Path(text).exists():
        return text, "1"
    return path, scale


def _placed(
    file: LoraFile, networks: Mapping[str, _Network], origin: str
) -> dict[tuple[str, str], Layer]:
    """The layers by component and module, but for those of a component that is not there."""
    faults = Faults()
    placed: dict[tuple[str, str], Layer] = {}
    for layer in file.layers:
        if layer.component in _SPELLINGS and layer.component not in networks:
            continue
        where = _find(layer, networks)
        if where is None or where in placed:
            faults.unexpected.append(layer.name if where is None else f"{layer.name} (twice)")
            continue
        placed[where] = layer
        faults.misshaped += networks[where[0]].misfits(where[1], layer.deltas)
    if faults:
        raise DataError(
            f"{file.origin} does not fit {origin}: {faults}. {_family(file)}Take a LoRA that was "
            "trained on a model of this one's kind"
        )
    return placed


def _find(layer: Layer, networks: Mapping[str, _Network]) -> tuple[str, str] | None:
    """Component and module of a layer; of any component if the file states none."""
    for name, network in networks.items():
        if layer.component in (name, None) and (module := network.find(layer.key)) is not None:
            return name, module
    return None


def _family(file: LoraFile) -> str:
    """A sentence on the models that the LoRA is for, where that shows."""
    components = {layer.component for layer in file.layers}
    widths = {
        delta.shape[1]
        for layer in file.layers
        for delta in layer.deltas
        if layer.key.endswith(("attn2_to_k", "attn2_to_v")) and len(delta.shape) > 1
    }
    if "transformer" in components or any("double_blocks" in layer.key for layer in file.layers):
        return "It is for a diffusion transformer (Flux, SD3). "
    if "text_encoder_2" in components or 2048 in widths:
        return "It is for SDXL. "
    return "It is for SD2.x. " if 1024 in widths else ""


def _matrix(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without the 1 x 1 of a convolution that is a matrix."""
    return shape[:2] if set(shape[2:]) <= {1} else shape


def _changed(
    source: TensorSource, deltas: Mapping[str, Sequence[Callable[[], np.ndarray]]], files: str
) -> TensorSource:
    """`source` with the sums of `deltas`, which are those of `files`, added to its tensors."""
    if not deltas:
        return source
    changes = {
        name: Change(source.tensors[name].shape, functools.partial(_added, values))
        for name, values in deltas.items()
    }
    view = View(source, {name: name for name in source.tensors}, changes)
    view.origin = f"{source.origin} with {files}"
    return view


def _added(deltas: Iterable[Callable[[], np.ndarray]], weight: np.ndarray) -> np.ndarray:
    total = weight.astype(np.float32)
    for delta in deltas:
        total += delta().reshape(weight.shape)
    # What is too large becomes infinite, and is refused with the other weights.
    with np.errstate(over="ignore"):
        return total.astype(weight.dtype)


def _note(spec: Lora, placed: Mapping[tuple[str, str], Layer], left: int) -> str:
    counts = Counter(component for component, _ in placed)
    layers = " and ".join(f"{counts[name]} layers of {name}" for name in _SPELLINGS if counts[name])
    ranks = _span("rank", [layer.rank for layer in placed.values()])
    alphas = _span("alpha", [layer.alpha for layer in placed.values()])
    rest = f"; {left} layers of networks that are not here left out" if left else ""
    return f"merged {spec.path} at scale {spec.scale:g}: {layers}{ranks}{alphas}{rest}"


def _span(name: str, values: Iterable[float | None]) -> str:
    """From the lowest to the highest; "" where a file has full changes alone."""
    numbers = sorted({value for value in values if value is not None})
    ends = " to ".join(f"{number:g}" for number in dict.fromkeys((*numbers[:1], *numbers[-1:])))
    return f", {name} {ends}" if ends else ""


def _unet_spellings(module: str) -> Iterator[str]:
    """Names of a module: today's, that of a list's only layer, and the public reward model's."""
    yield module
    yield module.removesuffix(".0")
    yield to_released(f"{module}.").removesuffix(".")


def _text_encoder_spellings(module: str) -> Iterator[str]:
    """Names of a module: with `text_model.`, without, and as diffusers once called attention."""
    for name in (module, module.removeprefix("text_model.")):
        yield name
        yield re.sub(r"self_attn\.(q|k|v|out)_proj$", r"self_attn.to_\1", name)


def _original_keys(modules: Collection[str]) -> Callable[[str], str]:
    """Our key for that of a module under the names of the original code; "" if it has none."""

    def count(pattern: str) -> int:
        return len({match[1] for name in modules if (match := re.match(pattern, name))})

    layers, levels = count(r"down_blocks\.0\.resnets\.(\d+)\."), count(r"down_blocks\.(\d+)\.")
    rule = sized_unet_rule(layers, levels)
    return lambda key: flat((rule(f"{_dotted(key)}.weight") or "").removesuffix(".weight"))


def _dotted(key: str) -> str:
    """The key with dots about its numbers."""
    return re.sub(r"_?(?<![^_])(\d+)(?![^_])_?", r".\1.", key).replace("..", ".").strip(".")


_SPELLINGS: dict[str, Callable[[str], Iterator[str]]] = {
    "unet": _unet_spellings,
    "text_encoder": _text_encoder_spellings,
}
