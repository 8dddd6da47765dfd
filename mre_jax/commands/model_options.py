"""The options that name a model, for every command that reads one."""

import argparse
from typing import Any

Parser = argparse.ArgumentParser | argparse._ArgumentGroup


def add_model(parser: Parser, help: str = "", **options: Any) -> None:
    """Adds `--model`, and what is read together with it.

    Args:
        help: what the command takes of the model.
        options: of argparse, for `--model`.
    """
    places = "a model folder, a weight file, gs://..., or org/name@REVISION on the hub"
    parser.add_argument("--model", help=f"{help}{places}", **options)
    add_base(parser)
    add_lora(parser)


def add_lora(parser: Parser) -> None:
    """Adds `--lora` alone, as `add_base`."""
    parser.add_argument(
        "--lora",
        metavar="FILE[:SCALE]",
        action="append",
        default=[],
        help="a LoRA to merge into the model's weights, of the scale 1 or another; may be repeated",
    )


def add_base(parser: Parser) -> None:
    """Adds `--base` alone, where the model is named otherwise."""
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="another model for what this one lacks: tokenizer, VAE, text encoder",
    )


def add_weights(parser: Parser) -> None:
    """Adds `--weights`, where the UNet is read."""
    parser.add_argument(
        "--weights",
        choices=("ema", "raw"),
        help="of a model that has both, the moving average or not (default: ema)",
    )
