"""Memory and seconds of loading SmartEdit's language model onto several devices.

    python benchmarks/placing.py               # 1.6 GB, two devices of this machine's CPU
    python benchmarks/placing.py --layers 32 --width 4096 --inner 11008   # SmartEdit-7B's 13 GB

A folder with random weights is written once, in the released dtypes, and read in a process of its
own, whose largest memory is compared with what stays in it: on a CPU the devices' memory is the
process's own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MB = 1e6


def main() -> None:
    """Writes the model, loads it in another process, and prints what that took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=8, help="(%(default)s)")
    parser.add_argument("--width", type=int, default=2560, help="(%(default)s)")
    parser.add_argument("--inner", type=int, default=6912, help="of the MLP (%(default)s)")
    parser.add_argument("--devices", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        print(json.dumps(read(args.read)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "model", args)
        flags = f"--xla_force_host_platform_device_count={args.devices}"
        process = subprocess.run(
            [sys.executable, __file__, "--read", f"{folder}/model"],
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            check=True,
        )
    found = json.loads(process.stdout)
    beside = found["peak"] - found["before"] - found["kept"]
    print(f"{args.devices} devices, {found['seconds']:.1f} s")
    for name in ("kept", "a_device", "largest"):
        print(f"{name:>10} {found[name] / MB:9.1f} MB")
    print(f"{'beside':>10} {beside / MB:9.1f} MB, {beside / found['largest']:.2f} of the largest")


def write(folder: Path, args: argparse.Namespace) -> None:
    """A model folder that has a language model alone."""
    import numpy as np

    from mre_jax.io.json_file import to_bytes
    from mre_jax.models.llama_config import LlamaConfig
    from mre_jax.models.lora import LoRAConfig
    from mre_jax.weights.files.source import BFLOAT16, TensorInfo, TensorSource
    from mre_jax.weights.model import Component, PretrainedModel
    from mre_jax.weights.names.rule import expected_tensors
    from mre_jax.weights.save import save_model

    class Repeated(TensorSource):
        """Tensors of a few random numbers."""

        origin = "random"

        def __init__(self, shapes: dict[str, Any]):
            trained = ("lora_", "embed_tokens", "lm_head")
            self.tensors = {
                name: TensorInfo(
                    shape.shape,
                    np.dtype(np.float32) if any(part in name for part in trained) else BFLOAT16,
                )
                for name, shape in shapes.items()
            }
            self._numbers = np.random.default_rng(0).normal(scale=0.02, size=1009)

        def read(self, name: str) -> np.ndarray:
            info = self.tensors[name]
            return np.resize(self._numbers.astype(info.dtype), info.shape)

    sizes = LlamaConfig(
        hidden_size=args.width, intermediate_size=args.inner, num_hidden_layers=args.layers
    )
    config = {**sizes.to_dict(), "lora": LoRAConfig().to_dict()}
    shapes = expected_tensors(Component("llm", config, b"", Repeated({})).network())
    part = Component("llm", config, to_bytes(config), Repeated(shapes))
    model = PretrainedModel("random", "smartedit", "only", {"llm": part}, {}, lone=False)
    save_model(model, folder, tokenizer=False)


def read(folder: str) -> dict[str, float]:
    """Loads the language model of a folder; returns bytes and seconds."""
    import jax
    import numpy as np
    from flax import nnx
    from jax.sharding import Mesh

    from mre_jax.io.devices import split_longest
    from mre_jax.weights.load import load_component

    mesh = Mesh(np.asarray(jax.devices()), ("fsdp",))
    jax.block_until_ready(jax.device_put(np.zeros(8), jax.devices()[0]))
    before, start = _memory("VmRSS"), time.perf_counter()
    llm = load_component(
        "llm", folder, placement=lambda _, leaf: split_longest(mesh, leaf.shape, ("fsdp",))
    )
    seconds, peak = time.perf_counter() - start, _memory("VmHWM")
    leaves = jax.tree.leaves(nnx.state(llm))
    parts = [part for leaf in leaves for part in leaf.addressable_shards]
    return {
        "seconds": seconds,
        "before": before,
        "peak": peak,
        "kept": sum(part.data.nbytes for part in parts),
        "a_device": sum(p.data.nbytes for p in parts if p.device == jax.devices()[0]),
        "largest": max(leaf.nbytes for leaf in leaves),
    }


def _memory(name: str) -> int:
    """Of this process: VmRSS is now, VmHWM the most so far (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith(f"{name}:"))
    return int(found.split()[1]) * 1024


if __name__ == "__main__":
    main()
