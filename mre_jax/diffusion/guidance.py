"""Guidance: the UNet's predictions under several conditions, as one weighted sum.

A rule is a list of branches, each seeing or not seeing the text and the source image, with a weight
per example. The branches of a batch run in one pass, stacked branch-major: all examples of the
first branch, then all of the second. With e_full, e_img, e_txt and e_uncond for what a branch
sees, s_T = guidance_scale, s_I = image_guidance_scale and s_R = reward_guidance_scale:

    instruct_pix2pix     e_uncond + s_T (e_full - e_img) + s_I (e_img - e_uncond)
                         (Brooks et al. 2023, Eq. 3)
    instruct_diffusion   (e_img + e_txt) / 2 + s_T (e_full - e_img) + s_I (e_full - e_txt)
                         (Geng et al. 2023, its released code)
    reward guidance      + (s_R - 1) (e_full - e_full under a low reward), on top of either
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, PyTree

from mre_jax.errors import ConfigError

Scale = int | float | Sequence[int | float] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Branch:
    """What one prediction is conditioned on.

    Attributes:
        text: the instruction, else the empty prompt.
        image: the source image's latents, else zeros.
        reward: the reward that was asked for ("high"), or the one to get away from ("low").
    """

    text: bool
    image: bool
    reward: Literal["high", "low"] = "high"


Weights = dict[Branch, np.ndarray]

FULL = Branch(text=True, image=True)
IMAGE = Branch(text=False, image=True)
TEXT = Branch(text=True, image=False)
UNCONDITIONAL = Branch(text=False, image=False)
LOW_REWARD = Branch(text=True, image=True, reward="low")


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["branches"]
)
@dataclasses.dataclass(frozen=True)
class Guidance:
    """The branches to run, and each example's weights for them. A pytree.

    Attributes:
        branches: in the order in which they are stacked; static.
        weights: [b, branches] float32, on the host (NumPy) until it is used.
    """

    branches: tuple[Branch, ...]
    weights: Any  # as a pytree it may also hold shardings or shapes


class BranchInputs(NamedTuple):
    """Conditions of all branches, pytrees with leading axis branches * b, branch-major."""

    text: PyTree
    image: PyTree
    reward: PyTree


def plan_guidance(
    rule: str,
    guidance_scale: Scale,
    image_guidance_scale: Scale,
    reward_guidance_scale: Scale = 1.0,
) -> Guidance:
    """The branches and weights of a rule.

    Under "instruct_pix2pix" a guidance_scale of 1 means, as in diffusers, no guidance of that
    example by text or image: the prediction is e_full. A branch that no example needs is left out.

    Args:
        rule: "instruct_pix2pix" or "instruct_diffusion".
        guidance_scale: s_T, at least 1; one number or one per example.
        image_guidance_scale: s_I, at least 1 ("instruct_diffusion": at least 0); likewise.
        reward_guidance_scale: s_R, at least 1, which is off; likewise.

    Raises:
        ConfigError: for an unknown rule, or a scale out of range, not finite, or of a number of
            examples that differs from the others'.

    Example:
        >>> guidance = plan_guidance("instruct_pix2pix", 7.5, [1.5, 2.0])
        >>> len(guidance.branches), guidance.weights.tolist()
        (3, [[7.5, -6.0, -0.5], [7.5, -5.5, -1.0]])
        >>> len(plan_guidance("instruct_pix2pix", 1.0, 1.5).branches)
        1
    """
    if rule not in _RULES:
        raise ConfigError(f"guidance rule {rule!r} is unknown; use one of {', '.join(_RULES)}")
    weigh, image_minimum = _RULES[rule]
    text = _scale("guidance_scale", guidance_scale, 1.0)
    image = _scale("image_guidance_scale", image_guidance_scale, image_minimum)
    reward = _scale("reward_guidance_scale", reward_guidance_scale, 1.0)
    text, image, reward = _same_length(text, image, reward)
    weights = weigh(text, image)
    weights[FULL] = weights[FULL] + (reward - 1)
    weights[LOW_REWARD] = 1 - reward
    kept = {branch: weight for branch, weight in weights.items() if weight.any()}
    return Guidance(tuple(kept), np.stack([*kept.values()], axis=1).astype(np.float32))


def tile_branches(guidance: Guidance, tree: PyTree) -> PyTree:
    """What all branches share, once per branch: every leaf [b ...] to [branches * b ...]."""
    return _stack([tree] * len(guidance.branches))


def stack_branches(
    guidance: Guidance,
    *,
    text: PyTree,
    null_text: PyTree,
    image: PyTree,
    high: PyTree = None,
    low: PyTree = None,
) -> BranchInputs:
    """The conditions each branch sees, every leaf [b ...] to [branches * b ...].

    Args:
        guidance: a plan for b examples.
        text: states of the instruction.
        null_text: states of the empty prompt, b of them or one for all.
        image: latents of the source image; a branch that does not see them gets zeros.
        high: the reward that was asked for; None if the model takes none.
        low: the reward to get away from; needed under reward guidance only.

    Raises:
        ConfigError: under reward guidance without a reward.
    """
    branches = guidance.branches
    if LOW_REWARD in branches and (high is None or low is None):
        raise ConfigError(
            "reward_guidance_scale above 1 needs a reward to guide by: pass one, or leave it at 1"
        )
    null_text = jax.tree.map(lambda null, like: jnp.broadcast_to(null, like.shape), null_text, text)
    blank = jax.tree.map(jnp.zeros_like, image)
    return BranchInputs(
        text=_stack([text if branch.text else null_text for branch in branches]),
        image=_stack([image if branch.image else blank for branch in branches]),
        reward=_stack([high if branch.reward == "high" else low for branch in branches]),
    )


def combine(
    outputs: Float[Array, "stacked *rest"],
    weights: Float[np.ndarray, "b branches"] | Float[Array, "b branches"],
) -> Float[Array, "b *rest"]:
    """The guided prediction from the stacked ones, in their dtype."""
    outputs = rearrange(outputs, "(n b) ... -> n b ...", n=weights.shape[1])
    # Sums, not a matrix product, which accelerators would round to bfloat16.
    factors = jnp.expand_dims(jnp.asarray(weights).T, range(2, outputs.ndim))
    return jnp.sum(factors.astype(outputs.dtype) * outputs, axis=0)


def _stack(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)


def _instruct_pix2pix(text: np.ndarray, image: np.ndarray) -> Weights:
    guided = text > 1
    return {
        FULL: np.where(guided, text, 1.0),
        IMAGE: np.where(guided, image - text, 0.0),
        UNCONDITIONAL: np.where(guided, 1 - image, 0.0),
    }


def _instruct_diffusion(text: np.ndarray, image: np.ndarray) -> Weights:
    return {FULL: text + image, IMAGE: 0.5 - text, TEXT: 0.5 - image}


# Each rule with its smallest image_guidance_scale.
_RULES: Mapping[str, tuple[Callable[[np.ndarray, np.ndarray], Weights], float]] = {
    "instruct_pix2pix": (_instruct_pix2pix, 1.0),
    "instruct_diffusion": (_instruct_diffusion, 0.0),
}


def _scale(name: str, value: Scale, minimum: float) -> np.ndarray:
    scales = np.atleast_1d(np.asarray(value, np.float64))
    for scale in scales.flat:
        if not minimum <= scale < np.inf:
            raise ConfigError(f"{name}={scale:g} must be a finite number of at least {minimum:g}")
    return scales


def _same_length(*scales: np.ndarray) -> tuple[np.ndarray, ...]:
    try:
        return np.broadcast_arrays(*scales)
    except ValueError:
        lengths = ", ".join(str(len(scale)) for scale in scales)
        raise ConfigError(
            f"guidance_scale, image_guidance_scale and reward_guidance_scale are given for "
            f"{lengths} examples; give each once or once per example"
        ) from None
