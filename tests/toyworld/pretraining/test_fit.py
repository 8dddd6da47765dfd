"""The loop of both stages, on a loss of one number."""

import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.toyworld.pretraining import fit as module
from mre_jax.toyworld.pretraining.fit import fit


def fitted(folder, steps, read=lambda step: np.full(8, step, np.float32)):
    def loss(params, batch, key):
        del key
        return jnp.mean(jnp.square(params["w"] - 3 + 0 * batch.mean()))

    return fit(
        "toy",
        {"w": jnp.zeros(2)},
        loss,
        read,
        steps=steps,
        rate=0.1,
        ema_decay=0.5,
        seed=0,
        folder=folder,
        observe=lambda done, params: {"step": done, "w": float(params["w"][0])},
        observe_every=15,
    )


def test_it_minimises_and_a_killed_fit_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SAVE_EVERY", 10)

    def killed(step):
        if step == 25:
            raise KeyboardInterrupt
        return np.full(8, step, np.float32)

    whole = fitted(tmp_path / "whole", 40)
    assert 1 < float(whole.params["w"][0]) < 3.5
    assert [point["step"] for point in whole.curve] == [15, 30, 40]
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "part", 40, killed)
    part = fitted(tmp_path / "part", 40)
    np.testing.assert_array_equal(part.params["w"], whole.params["w"])
    assert part.curve == whole.curve
