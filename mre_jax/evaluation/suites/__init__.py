"""The benchmarks, one file each.

A suite is a frozen dataclass, of the fields that a caller sets; see `evaluation.suite`. It is
registered by its line in `SUITES`, and is then a suite of `mre evaluate`, options and all.
"""

import importlib
from typing import TYPE_CHECKING

from mre_jax.errors import ConfigError

if TYPE_CHECKING:
    from mre_jax.evaluation.suite import Suite

SUITES = {
    "real-edit": (
        "real_edit",
        "RealEdit",
        "three perspectives by a judge, on photos or the toy world",
    ),
    "magicbrush": ("magicbrush", "MagicBrush", "MagicBrush's test set, single and multi turn"),
    "table7": ("table7", "Table7", "CLIP following and preserving, FID, KID"),
    "emu-edit": ("emu_edit", "EmuEdit", "Emu Edit's test set: CLIP direction, DINO, L1"),
    "gedit": ("gedit", "GEdit", "GEdit-Bench by a judge"),
    "imgedit": ("imgedit", "ImgEdit", "ImgEdit-Bench by a judge"),
    "reason-edit": (
        "reason_edit",
        "ReasonEdit",
        "Reason-Edit: CLIP in the mask, distances outside, Ins-align",
    ),
    "challenging": ("challenging", "Challenging", "training examples of low scores, made anew"),
}
"""By name: module, class, and what it is about."""


def suite_class(name: str) -> "type[Suite]":
    """The class of a suite.

    Raises:
        ConfigError: if there is none of this name.

    Example:
        >>> suite_class("real-edit").__name__
        'RealEdit'
    """
    if name not in SUITES:
        raise ConfigError(f"suite {name!r}: want one of {', '.join(SUITES)}")
    module, made, _ = SUITES[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), made)
