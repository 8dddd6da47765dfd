"""Offline preference training: Diffusion-DPO (Wallace et al. 2023), on pairs made from the scores.

A pair is two edits of one picture by one instruction, of which the scores prefer one. Its rows of a
batch are neighbours, the preferred one first; they share timestep, noise, crop and dropout, so that
they differ in the edited picture alone. The reference is the network that training starts from.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float32

from mre_jax.training.parallel import Layout
from mre_jax.training.state import Parameters


def preference_loss(
    errors: Float32[Array, " b"],
    reference: Float32[Array, " b"],
    weight: Float32[Array, " b"],
    beta: float,
) -> Float32[Array, ""]:
    """The mean over pairs of -log sigmoid(-beta/2 w ((e_w - r_w) - (e_l - r_l))).

    This is Eq. 14 of the paper as its released code scales it. There e and r are squared norms and
    their factor is the paper's beta times the number T of timesteps; here, as in the code, they are
    means over the d numbers of the latents, and beta / 2 takes the factor's place: `beta` is
    2 d T times the paper's. Both networks' errors at the start are equal and the loss is log 2.

    Args:
        errors: e, of the network that is trained; of each pair the preferred edit's, then the
            other's.
        reference: r, likewise, of the reference; no gradient is to reach it.
        weight: w of the timestep, which the edits of a pair share.
        beta: how strongly the network is held to the reference.

    Example:
        >>> better, same = jnp.asarray([0.1, 0.4]), jnp.asarray([0.2, 0.4])
        >>> [round(float(preference_loss(e, same, jnp.ones(2), 20)), 3) for e in (same, better)]
        [0.693, 0.313]
    """
    gained = (errors - reference)[::2] - (errors - reference)[1::2]
    return jnp.mean(-jax.nn.log_sigmoid(-beta / 2 * weight[::2] * gained))


def reference_of(params: Parameters, dtype: DTypeLike, layout: Layout) -> Parameters:
    """The reference: a copy of what training starts from, as it computes.

    Args:
        params: of the UNet, which a run uses up.
        dtype: of the copy's matrices and kernels.
    """

    def copy(params: Parameters) -> Parameters:
        return {k: jnp.copy(x.astype(dtype) if x.ndim > 1 else x) for k, x in params.items()}

    places = {name: layout.storage(x) for name, x in params.items()}
    reference: Parameters = jax.jit(copy, out_shardings=places)(params)
    return reference
