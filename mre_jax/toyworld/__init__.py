"""A procedural world of instruction edits in which the three rewards are computed exactly."""

from pathlib import Path
from typing import Any

EDITOR = Path(__file__).parent / "editor"
"""A small pretrained editor that ships, made by `mre toy-pretrain`: a diffusers folder."""

SMARTEDIT = Path(__file__).parent / "smartedit" / "editor"
"""The place of a small SmartEdit, made by `mre toy-smartedit`; none ships so far."""

GUIDANCE: dict[str, Any] = {"guidance_scale": 2.0, "image_guidance_scale": 1.0}
"""With what it edits best, found on scenes of no benchmark: fields of `EditConditions`."""
