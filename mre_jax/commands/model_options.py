"""The option that names LoRAs, for commands without a spec that has one."""

import argparse


def add_lora(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds `--lora`."""
    parser.add_argument(
        "--lora",
        metavar="FILE[:SCALE]",
        action="append",
        default=[],
        help="a LoRA to merge into the model's weights, of the scale 1 or another; may be repeated",
    )
