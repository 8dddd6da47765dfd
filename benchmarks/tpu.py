"""What a training step takes on a TPU, on a machine without one: compiled ahead of time by libtpu.

    pip install -e '.[tpu]'
    python benchmarks/tpu.py --topology v5e:4x4 --batch 16
    python benchmarks/tpu.py --topology v5e:4x4 --batch 16 --smartedit
    python benchmarks/tpu.py --topology v5e:2x2 --tiny        # the whole way in a minute

The step is that of stage 2 from cached latents and text states; of SmartEdit's reward stage, from
its cached image features too. Memory is exact. The time is an
estimate, good for comparing programs: the cycles that the compiler expects of each operation,
without collectives, stalls and Pallas kernels, over the clock. `--hlo FILE` keeps the compiled
program, whose compilation takes 13 GB and ten minutes or more at full size.
"""

import argparse
import math
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# Read when libtpu is loaded: there is no TPU here to ask, and no other process that has one.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

import jax
from flax import nnx
from jax.experimental import topologies

from mre_jax.data.batches.synthetic import SyntheticCache, SyntheticLoader
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.layers import make_rngs
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.training import flops
from mre_jax.training.config import TrainConfig, load_config
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.pretrained import compute_of
from mre_jax.training.state import Network, abstract_state
from mre_jax.training.step import make_step
from mre_jax.training.trained import TrainedNetworks

CONFIGS = Path(__file__).parents[1] / "configs"
STAGE_2, SMARTEDIT = CONFIGS / "reward_ip2p.yaml", CONFIGS / "smartedit_reward.yaml"
PATCHES = 16
"""Along each side of the picture that SmartEdit's CLIP sees."""
CLOCKS = {"v5e": 1.5e9, "v6e": 1.75e9}
PIXELS_PER_LATENT = 8
GIB = 2**30

# One level, attention in its middle: a program that compiles in half a minute.
TINY: dict[str, Any] = {
    "block_out_channels": (64,),
    "down_block_types": ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 64,
}


class Reference(NamedTuple):
    """MaxDiffusion's UNet, unmodified, compiled and estimated in the same way."""

    arguments: float
    peak: float
    milliseconds: float


# Eight input channels, bfloat16 activations, float32 parameters, AdamW, replicated, 256 px.
MAXDIFFUSION = {
    ("v5e", 4): Reference(9.6, 11.7, 90.7),
    ("v5e", 16): Reference(9.6, 14.0, 159.6),
    ("v6e", 16): Reference(9.6, 15.1, 63.5),
}


class Collective(NamedTuple):
    """Transfers of one kind between the chips.

    Attributes:
        operation: "all-gather", "all-reduce" or "reduce-scatter".
        dtype: of what travels, as the compiled program calls it.
    """

    operation: str
    dtype: str


def main() -> None:
    """Compiles one step and prints what it takes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--topology", default="v5e:4x4", help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="of a chip (%(default)s)")
    parser.add_argument("--pixels", type=int, default=256, help="(%(default)s)")
    parser.add_argument("--config", help="(configs/reward_ip2p.yaml, or smartedit_reward.yaml)")
    parser.add_argument("--smartedit", action="store_true", help="with its image features")
    parser.add_argument("--tiny", action="store_true", help="a network of one level")
    parser.add_argument("--hlo", type=Path, help="keep the compiled program here")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_args()
    # A program for chips that are not here can be written to the cache, but not read from it.
    jax.config.update("jax_enable_compilation_cache", False)
    devices = topologies.get_topology_desc(platform="tpu", topology_name=args.topology).devices
    config = step_config(args, len(devices))
    unet = UNetConfig(
        in_channels=config.model.in_channels,
        reward=config.model.reward,
        **(TINY if args.tiny else {}),
    )
    start = time.perf_counter()
    compiled = compile_step(config, unet, devices, image_features=args.smartedit)
    seconds = time.perf_counter() - start
    program = compiled.as_text()
    if args.hlo:
        args.hlo.write_text(program)
    print(f"{args.topology}, {devices[0].device_kind}, jax {jax.__version__}, {seconds:.0f} s")
    side = args.pixels // PIXELS_PER_LATENT
    arithmetic = args.batch * flops.training(unet, side, side)
    report(args, devices[0], compiled, program, arithmetic)


def step_config(args: argparse.Namespace, devices: int) -> TrainConfig:
    """The configuration of a run whose programs are for a TPU, wherever they are traced."""
    own = (f"data.batch_size={args.batch * devices}", f"data.resolution={args.pixels}")
    path = args.config or (SMARTEDIT if args.smartedit else STAGE_2)
    return load_config(path, ["model.attention=tpu", *own, *args.settings])


def compile_step(
    config: TrainConfig, unet: UNetConfig, devices: Any, *, image_features: bool = False
) -> jax.stages.Compiled:
    """The training step on cached latents and text states, compiled for devices that need not be.

    Args:
        devices: of a topology.
        image_features: whether the examples have SmartEdit's.
    """
    layout = Layout.of(config.mesh, make_mesh(config.mesh, devices))
    compute = compute_of(config.model)
    network = Network.of(nnx.eval_shape(lambda: UNet(unet, compute=compute, rngs=make_rngs(0))))
    optimizer = make_optimizer(config.optimizer, config.steps)
    ema = config.model.ema_decay is not None
    state = abstract_state(network.abstract, optimizer, layout, ema=ema)

    width = unet.cross_attention_dim
    loader = SyntheticLoader(
        config.data.batch_size,
        resolution=config.data.resolution,
        cache=SyntheticCache(
            text_width=width,
            image_features=(PATCHES, unet.block_out_channels[0]) if image_features else None,
        ),
    )
    batch = jax.tree.map(lambda x: _abstract(x, layout.batch), loader.batch(0))
    null_text = jax.ShapeDtypeStruct((loader.tokens, width), compute.dtype)
    frozen = Frozen({}, {}, _abstract(null_text, layout.replicated))
    schedule = NoiseSchedule.stable_diffusion()
    networks, encoders = TrainedNetworks({"unet": network}), Encoders(None, None, 0.18215)
    step = make_step(config, networks, encoders, schedule, optimizer, layout)
    with jax.set_mesh(layout.mesh):
        return step.lower(state, frozen, batch).compile()


def _abstract(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    return jax.ShapeDtypeStruct(x.shape, dtype, sharding=sharding)


def report(
    args: argparse.Namespace,
    device: Any,
    compiled: jax.stages.Compiled,
    program: str,
    arithmetic: float,
) -> None:
    """Prints memory, arithmetic, transfers and estimated time of one chip.

    Args:
        program: the text of `compiled`.
        arithmetic: operations of one chip in a step, as a UNet's are usually counted.
    """
    chip = args.topology.partition(":")[0]
    peak = flops.peak(device)
    assert peak is not None  # noqa: S101  every chip with a clock has one
    time_ms = estimated_cycles(program) / CLOCKS[chip] * 1e3
    rows = {**memory(compiled), "arithmetic, TFLOP": arithmetic / 1e12}
    rows["of it in the compiled program"] = compiled.cost_analysis()["flops"] / 1e12
    rows["moved, GB"] = compiled.cost_analysis()["bytes accessed"] / 1e9
    rows["estimated ms"] = time_ms
    rows["images/s"] = args.batch / time_ms * 1e3
    rows["share of peak, %"] = 100 * arithmetic / peak / time_ms * 1e3
    rows["floor, ms"] = arithmetic / peak * 1e3
    reference = MAXDIFFUSION.get((chip, args.batch)) if not args.tiny else None
    theirs = {
        "arguments, GiB": reference and reference.arguments,
        "peak, GiB": reference and reference.peak,
        "estimated ms": reference and reference.milliseconds,
        "images/s": reference and args.batch / reference.milliseconds * 1e3,
    }
    print(f"{'one chip, batch ' + str(args.batch):<32}{'mre_jax':>12}{'MaxDiffusion':>14}")
    for name, value in rows.items():
        other = theirs.get(name)
        print(f"{name:<32}{value:>12.3f}{'-' if other is None else f'{other:.1f}':>14}")
    print("\nbetween chips, MB of whole arrays")
    for (operation, dtype), size in sorted(collectives(program).items()):
        print(f"{operation + ' ' + dtype:<32}{size / 1e6:>12.3f}")


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


if __name__ == "__main__":
    main()
