"""`mre convert SRC DST`: weights of any public layout to a model folder."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from mre_jax.commands.model_options import add_base, add_lora, add_weights
from mre_jax.errors import ConfigError, DataError
from mre_jax.weights import verify as verification
from mre_jax.weights.checkpoint import EDITOR, Checkpoint, checkpoint_at
from mre_jax.weights.files.folder import read_json
from mre_jax.weights.lora import Loras
from mre_jax.weights.save import DTYPES, FORMATS, save_checkpoint
from mre_jax.weights.tokens import is_tokenizer_file


def convert(
    src: epath.PathLike,
    dst: epath.PathLike,
    *,
    weights: str | None = None,
    in_channels: int | None = None,
    config: epath.PathLike | None = None,
    base: epath.PathLike | None = None,
    lora: Loras = (),
    tokenizer: bool = True,
    format: str = "diffusers",
    dtype: str = "same",
    verify: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Read the model `src` and write it as the folder `dst`.

    Args:
        src: a model folder, a lone component's folder, or a file in the original layout; a local
            path, `org/name@REVISION` or `gs://...`.
        dst: a new folder, local or `gs://...`.
        weights: "ema" or "raw" where there are both; None prefers the moving average.
        in_channels: what the UNet shall take; missing ones get zero weights. None is an editor's.
        config: a JSON file whose entries replace those of the UNet's configuration.
        base: a model for what `src` lacks, such as the tokenizer; from any of these places.
        lora: LoRA files to merge, from any of these places: "FILE", "FILE:SCALE", (FILE, SCALE) or
            several.
        tokenizer: False writes a model that lacks its tokenizer nevertheless.
        format: "diffusers" or "orbax".
        dtype: "same", "float32", "float16" or "bfloat16".
        verify: compare the result with PyTorch, and put the figures into `dst`.
        force: replace `dst`.

    Returns:
        A report: `kind` of the source, `weights` taken, per component its tensors and parameters,
        SHA-256 of the files, `notes`, and with `verify` the relative errors.

    Raises:
        DataError: when anything does not fit; then nothing is written.
        ConfigError: when settings contradict each other or the model is not supported.
    """
    if verify and (format != "diffusers" or "://" in str(dst)):
        raise ConfigError("--verify needs a local folder in the format diffusers")
    with checkpoint_at(
        src,
        base=base,
        lora=lora,
        weights=weights,
        in_channels=EDITOR if in_channels is None else in_channels,
        unet_config=None if config is None else read_json(Path(config)),
    ) as model:
        if "text_encoder" in model.components and any(map(is_tokenizer_file, model.files)):
            model.tokenizer()  # one that does not fit its encoder is found here, not in training
        files = save_checkpoint(
            model, dst, format=format, dtype=dtype, force=force, tokenizer=tokenizer
        )
    report = {
        "source": str(src),
        "kind": model.kind,
        "weights": model.weights,
        "components": _counts(model),
        "files": files,
        "notes": list(model.notes),
    }
    if verify:
        report["relative_error"] = verification.verify(Path(dst))
    return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mre convert`."""
    parser.add_argument(
        "src",
        metavar="SRC",
        help="a model folder, a component's folder or a CompVis .ckpt; a path, "
        "org/name@REVISION on the hub, or gs://...",
    )
    parser.add_argument("dst", metavar="DST", help="the folder to write, local or gs://...")
    add_weights(parser)
    parser.add_argument(
        "--in-channels",
        type=int,
        metavar="N",
        help="input channels of the UNet; new ones start at zero (default: an editor's, 8 for "
        "Stable Diffusion; 4 keeps SD1.5's)",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="JSON whose entries replace the UNet's configuration"
    )
    add_base(parser)
    add_lora(parser)
    parser.add_argument(
        "--no-tokenizer",
        dest="tokenizer",
        action="store_false",
        help="write a model without tokenizer",
    )
    parser.add_argument("--format", choices=FORMATS, default="diffusers")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="same")
    parser.add_argument(
        "--verify", action="store_true", help="compare the result with PyTorch (needs torch)"
    )
    parser.add_argument("--force", action="store_true", help="replace DST")


def run(args: argparse.Namespace) -> int:
    """Carry out `mre convert`; 0, or 65 when `--verify` found a difference.

    Raises:
        DataError, ConfigError: as `convert`.
    """
    report = convert(
        **{key: value for key, value in vars(args).items() if key in _ARGUMENTS},
    )
    taken = {"ema": ", the EMA weights", "raw": ", the raw weights", "only": ""}
    print(f"{report['source']}: {report['kind']} model{taken[report['weights']]}")
    for name, counts in report["components"].items():
        print(f"  {name}: {counts['tensors']} tensors, {counts['parameters']:,} parameters")
    for note in report["notes"]:
        print(f"  {note}")
    for name, digest in report["files"].items():
        if name.endswith(".safetensors"):
            print(f"  sha256 {digest}  {name}")
    errors = report.get("relative_error", {})
    for name, error in errors.items():
        print(f"  {name}: relative difference to PyTorch {error:.1e}")
    print(f"wrote {args.dst}")
    # Not a number compares false with everything, so ask for what is good.
    if not all(error <= verification.TOLERANCE for error in errors.values()):
        print(
            f"the difference to PyTorch exceeds {verification.TOLERANCE:.0e}: do not use {args.dst}"
        )
        return DataError.exit_code
    return 0


def _counts(model: Checkpoint) -> dict[str, dict[str, int]]:
    return {
        name: {
            "tensors": len(component.source.tensors),
            "parameters": sum(
                int(np.prod(info.shape)) for info in component.source.tensors.values()
            ),
        }
        for name, component in model.components.items()
    }


_ARGUMENTS = (
    *("src", "dst", "weights", "in_channels", "config", "base", "tokenizer", "format", "dtype"),
    *("lora", "verify", "force"),
)
