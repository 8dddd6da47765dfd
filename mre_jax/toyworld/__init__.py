"""A procedural world of instruction edits in which the three rewards are computed exactly."""

from pathlib import Path

EDITOR = Path(__file__).parent / "editor"
"""A small pretrained editor that ships, made by `mre toy-pretrain`: a diffusers folder."""
