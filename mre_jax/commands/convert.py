"""`mre convert SRC DST`: weights of any public layout to a model folder."""

import argparse

from mre_jax.commands.options import add_options, read_options
from mre_jax.errors import DataError
from mre_jax.weights.convert import ConvertSpec, convert
from mre_jax.weights.verify import TOLERANCE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mre convert`."""
    add_options(parser, ConvertSpec)


def run(args: argparse.Namespace) -> int:
    """Carry out `mre convert`; 0, or 65 when `--verify` found a difference.

    Raises:
        DataError, ConfigError: as `convert`.
    """
    spec = read_options(ConvertSpec, args)
    report = convert(spec)
    taken = {"ema": ", the EMA weights", "raw": ", the raw weights", "only": ""}
    print(f"{report.source}: {report.kind} model{taken[report.weights]}")
    for name, count in report.tensors.items():
        print(f"  {name}: {count} tensors, {report.parameters[name]:,} parameters")
    for note in report.notes:
        print(f"  {note}")
    for name, digest in report.files.items():
        if name.endswith((".safetensors", ".bin")):
            print(f"  sha256 {digest}  {name}")
    for name, error in report.relative_error.items():
        print(f"  {name}: relative difference to PyTorch {error:.1e}")
    print(f"wrote {spec.dst}")
    if not report.fits_pytorch:
        print(f"the difference to PyTorch exceeds {TOLERANCE:.0e}: do not use {spec.dst}")
        return DataError.exit_code
    return 0
