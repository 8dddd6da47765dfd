"""What a training step takes on a TPU, on a machine without one: compiled ahead of time by libtpu.

    pip install -e '.[tpu]'
    python benchmarks/tpu.py --topology v5e:4x4 --batch 16
    python benchmarks/tpu.py --topology v5e:2x2 --tiny        # the whole way in a minute

The step is that of stage 2 from cached latents and text states. Memory is exact. The time is an
estimate, good for comparing programs: the cycles that the compiler expects of each operation,
without collectives, stalls and Pallas kernels, over the clock. `--hlo FILE` keeps the compiled
program, whose compilation takes 13 GB and ten minutes or more at full size.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mre_jax.models.clip_text import CLIPTextConfig
from mre_jax.models.unet_config import UNetConfig
from mre_jax.models.vae import VAEConfig
from mre_jax.planning.compiling import (
    CLOCKS,
    collectives,
    compile_step,
    devices_of,
    estimated_cycles,
    memory,
)
from mre_jax.planning.memory import INPUTS
from mre_jax.planning.work import Sizes
from mre_jax.training import flops
from mre_jax.training.config import TrainConfig, load_config

CONFIGS = Path(__file__).parents[1] / "configs"
STAGE_2, SMARTEDIT = CONFIGS / "reward_ip2p.yaml", CONFIGS / "smartedit_reward.yaml"
PIXELS_PER_LATENT = 8

# One level, attention in its middle: a program that compiles in half a minute.
TINY: dict[str, Any] = {
    "block_out_channels": (64,),
    "down_block_types": ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 64,
}
TINY_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
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


def main() -> None:
    """Compiles one step and prints what it takes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--topology", default="v5e:4x4", help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="of a chip (%(default)s)")
    parser.add_argument("--pixels", type=int, default=256, help="(%(default)s)")
    parser.add_argument("--config", help="(configs/reward_ip2p.yaml, or smartedit_reward.yaml)")
    parser.add_argument("--smartedit", action="store_true", help="with its image features")
    parser.add_argument("--inputs", default="texts", choices=INPUTS, help="(%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="a network of one level")
    parser.add_argument("--hlo", type=Path, help="keep the compiled program here")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="of the configuration")
    args = parser.parse_args()
    devices = devices_of(args.topology)
    config = step_config(args, len(devices))
    unet = UNetConfig(
        in_channels=config.model.in_channels,
        reward=config.model.reward,
        **(TINY if args.tiny else {}),
    )
    start = time.perf_counter()
    text = CLIPTextConfig(**(TINY_TEXT if args.tiny else {}))
    sizes = Sizes(unet, VAEConfig(), text)
    compiled = compile_step(config, sizes, devices, args.inputs, image_features=args.smartedit)
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


if __name__ == "__main__":
    main()
