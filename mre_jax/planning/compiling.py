"""A training step compiled ahead of time for chips that are not here, by libtpu.

Memory is exact. The time is an estimate, good for comparing programs: the cycles that the compiler
expects of each operation, without collectives, stalls and Pallas kernels, over the clock. At full
size it takes some 13 GB, and ten to thirty minutes of two cores.
"""

import datetime
import importlib.metadata
import importlib.util
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.experimental import topologies

from mre_jax.data.batches.synthetic import SyntheticCache, SyntheticLoader
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import ConfigError
from mre_jax.io.memory import too_much_is_an_error
from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.unet import UNet
from mre_jax.models.vae import AutoencoderKL
from mre_jax.planning.calibration import GIB, Compiled, keep
from mre_jax.planning.hardware import Slice
from mre_jax.planning.memory import copy_bytes, kept_bytes
from mre_jax.planning.timing import operations
from mre_jax.planning.work import Sizes, Work, sizes_of, work_of
from mre_jax.training.config import TrainConfig
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.pretrained import compute_of
from mre_jax.training.state import Network, abstract_state
from mre_jax.training.step import make_step
from mre_jax.training.trained import TrainedNetworks

CLOCKS = {"v5e": 1.5e9, "v6e": 1.75e9}
"""Cycles a second; the compiler's estimates are of these chips."""

_PATCHES = 16  # along each side of the picture that SmartEdit's CLIP sees


class Collective(NamedTuple):
    """Transfers of one kind between the chips.

    Attributes:
        operation: "all-gather", "all-reduce" or "reduce-scatter".
        dtype: of what travels, as the compiled program calls it.
    """

    operation: str
    dtype: str


def devices_of(topology: str) -> Sequence[Any]:
    """Devices to compile for.

    Args:
        topology: as "v5e:4x4".

    Raises:
        ConfigError: if libtpu is not there, or does not know it.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError("--compile needs libtpu: pip install 'mre_jax[tpu]'")
    jax.config.update("jax_platforms", "cpu")
    # Read when libtpu is loaded: there is no TPU here to ask, and no other process that has one.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    # A program for chips that are not here can be written to the cache, but not read from it.
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{topology}: libtpu does not compile for it ({reason})") from None
    return list(found.devices)


def compile_on(config: TrainConfig, where: Slice, inputs: str, own: Path | None = None) -> Compiled:
    """Compiles a run's step for a slice, and keeps what it takes for later estimates.

    Args:
        inputs: what a step reads, one of `memory.INPUTS`.
        own: file of the user's own programs, if not the usual one.

    Raises:
        ConfigError: for chips that are not compiled for; and if the compiler runs out of memory.
    """
    if where.chip.name not in CLOCKS:
        known = ", ".join(CLOCKS)
        raise ConfigError(f"--compile {where.name}: want one of {known}, whose clock is known")
    devices = devices_of(where.full_name)
    sizes = sizes_of(config.model)
    work = work_of(config.model, sizes, config.data.resolution)
    with too_much_is_an_error("take a smaller data.batch_size, or more chips"):
        program = compile_step(config, sizes, devices, inputs)
    found = measured(program, config, work, where, inputs)
    keep(found, own)
    return found


def compile_step(
    config: TrainConfig,
    sizes: Sizes,
    devices: Sequence[Any],
    inputs: str = "texts",
    *,
    image_features: bool = False,
) -> jax.stages.Compiled:
    """The training step, compiled for devices that need not be.

    Args:
        devices: of a topology.
        inputs: what the batch holds, one of `memory.INPUTS`.
        image_features: whether cached texts come with SmartEdit's image features.
    """
    layout = Layout.of(config.mesh, make_mesh(config.mesh, devices))
    compute = compute_of(config.model)
    unet = nnx.eval_shape(lambda: UNet(sizes.unet, compute=compute, rngs=make_rngs(0)))
    network = Network.of(unet)
    optimizer = make_optimizer(config.optimizer, config.steps)
    ema = config.model.ema_decay is not None
    state = abstract_state(network.abstract, optimizer, layout, ema=ema)

    width = sizes.unet.cross_attention_dim
    features = (_PATCHES, sizes.unet.block_out_channels[0]) if image_features else None
    cache = {
        "texts": SyntheticCache(text_width=width, image_features=features),
        "latents": SyntheticCache(),
        "pictures": None,
    }[inputs]
    loader = SyntheticLoader(config.data.batch_size, resolution=config.data.resolution, cache=cache)
    batch = jax.tree.map(lambda x: _abstract(x, layout.batch), loader.batch(0))
    encoders, frozen = _frozen(sizes, compute, inputs, layout, loader.tokens)
    schedule = NoiseSchedule.stable_diffusion()
    networks = TrainedNetworks({"unet": network})
    step = make_step(config, networks, encoders, schedule, optimizer, layout)
    with jax.set_mesh(layout.mesh):
        return step.lower(state, frozen, batch).compile()


def _frozen(
    sizes: Sizes, compute: Compute, inputs: str, layout: Layout, tokens: int
) -> tuple[Encoders, Frozen]:
    """The networks that such inputs go through, without arrays."""
    compute = Compute(compute.dtype, compute.attention)
    vae = text = None
    made: Any
    if inputs == "pictures":
        made = nnx.eval_shape(lambda: AutoencoderKL(sizes.vae, compute=compute, rngs=make_rngs(0)))
        vae = Network.of(made)
    if inputs != "texts":
        made = nnx.eval_shape(lambda: CLIPTextModel(sizes.text, compute=compute, rngs=make_rngs(0)))
        text = Network.of(made)

    def arrays(network: Network | None) -> Any:
        if network is None:
            return {}
        return {
            name: jax.ShapeDtypeStruct(x.shape, compute.dtype, sharding=layout.replicated)
            for name, x in network.abstract.items()
        }

    null_text: Any = jax.ShapeDtypeStruct((tokens, sizes.unet.cross_attention_dim), compute.dtype)
    encoders = Encoders(vae, text, sizes.vae.scaling_factor)
    return encoders, Frozen(arrays(vae), arrays(text), _abstract(null_text, layout.replicated))


def _abstract(x: Any, sharding: Any) -> Any:
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    return jax.ShapeDtypeStruct(x.shape, dtype, sharding=sharding)


def measured(
    program: jax.stages.Compiled,
    config: TrainConfig,
    work: Work,
    where: Slice,
    inputs: str,
) -> Compiled:
    """What a compiled step of a run says, as calibration keeps it."""
    layout = Layout.of(config.mesh, make_mesh(config.mesh, devices_of(where.full_name)))
    batch = config.data.batch_size // where.chips
    sizes = memory(program)
    clock = CLOCKS[where.chip.name]
    return Compiled(
        topology=where.full_name,
        batch=batch,
        pixels=config.data.resolution,
        remat=config.model.remat,
        fsdp=config.mesh.fsdp,
        inputs=inputs,
        copy=copy_bytes(work, config, layout),
        kept=kept_bytes(work) * batch // config.optimizer.accumulation,
        arithmetic=float(operations(config, work, inputs) * batch),
        arguments=sizes["arguments, GiB"],
        temporary=sizes["temporary, GiB"],
        milliseconds=estimated_cycles(program.as_text() or "") / clock * 1e3,
        origin=f"mre plan --compile, libtpu {importlib.metadata.version('libtpu')}",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def memory(compiled: jax.stages.Compiled) -> Mapping[str, float]:
    """GiB of one chip. The peak is the compiler's, its use of on-chip memory included."""
    sizes: Any = compiled.memory_analysis()
    return {
        "arguments, GiB": sizes.argument_size_in_bytes / GIB,
        "temporary, GiB": sizes.temp_size_in_bytes / GIB,
        "program, GiB": sizes.generated_code_size_in_bytes / GIB,
        "peak, GiB": sizes.peak_memory_in_bytes / GIB,
    }


def estimated_cycles(program: str) -> int:
    """What the compiler expects all operations of a scheduled program to take, but collectives.

    It expects nothing of these and of Pallas kernels. The body of a loop counts once.
    """
    return sum(int(cycles) for cycles in re.findall(r'"estimated_cycles":"(\d+)"', program))


def collectives(program: str) -> Counter[Collective]:
    """Bytes of the whole arrays that are gathered, summed or scattered.

    A transfer that goes on beside other work stands in the program several times, with the number
    of one channel; it counts once. Another kind of transfer may have that number too.
    """
    sizes: Counter[Collective] = Counter()
    for operation, arrays in _transfers(program):
        for dtype, shape in re.findall(r"\b([a-z]+\d+)\[([\d,]*)\]", arrays):
            count = math.prod(int(size) for size in shape.split(",") if size)
            sizes[Collective(operation, dtype)] += count * int(re.sub(r"\D", "", dtype)) // 8
    return sizes


def _transfers(program: str) -> list[tuple[str, str]]:
    """Operation and results of each."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for computation, line in _instructions(program):
        match = re.search(r" = (.+?) (all-gather|all-reduce|reduce-scatter)(-start)?\(", line)
        channel = re.search(r"channel_id=(\d+)", line)
        if match and channel:
            # Of a sum inside such a computation every chip keeps its part.
            scattered = computation.startswith("all-reduce-scatter")
            operation = "reduce-scatter" if scattered else match[2]
            found.setdefault((operation, channel[1]), (operation, match[1]))
    return list(found.values())


def _instructions(program: str) -> Iterator[tuple[str, str]]:
    """Every line with the computation it stands in."""
    computation = ""
    for line in program.splitlines():
        if header := re.match(r"(?:ENTRY )?%(\S+) \(", line):
            computation = header[1]
        yield computation, line
