import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.metrics.batched import Batched


def _network():
    return nnx.Linear(3, 5, rngs=nnx.Rngs(0))


def _batched(devices, batch_size=2, prepare=np.asarray, calls=None):
    def function(module, x):
        if calls is not None:
            calls.append(x.shape)
        return {"y": module(x), "first": x[:, 0]}

    return Batched(
        _network(), function, prepare, batch_size=batch_size, devices=jax.devices()[:devices]
    )


ITEMS = np.random.default_rng(0).normal(size=(19, 3)).astype(np.float32)


@pytest.mark.parametrize("devices", [1, 8])
def test_results_are_in_order_and_whole_whatever_the_number_of_devices(devices):
    calls: list = []
    run = _batched(devices, calls=calls)
    for count in (19, 16, 1):
        output = run(ITEMS[:count])
        np.testing.assert_array_equal(output["first"], ITEMS[:count, 0])
        np.testing.assert_allclose(output["y"], _network()(ITEMS[:count]), rtol=1e-5, atol=1e-6)
    assert calls == [(2, 3)]  # one program, for each device's part


def test_no_more_than_two_batches_are_read_ahead():
    taken: list[int] = []

    def items():
        for i, item in enumerate(ITEMS):
            taken.append(i)
            yield item

    stream = _batched(1).stream(items())
    next(stream)
    assert len(taken) == 4
    assert sum(len(part["y"]) for part in stream) == 17


def test_an_item_that_cannot_be_prepared_ends_the_run_with_its_own_error():
    def prepare(item):
        raise DataError("17.png: damaged picture")

    with pytest.raises(DataError, match=r"17\.png"):
        _batched(1, prepare=prepare)(ITEMS)


def test_nothing_to_do_and_an_impossible_batch_size_are_refused():
    with pytest.raises(DataError, match="nothing to measure"):
        _batched(1)([])
    with pytest.raises(ConfigError, match="batch size 0"):
        _batched(1, batch_size=0)


def test_products_are_taken_in_full_float32_wherever_it_runs():
    run = _batched(1)
    program = run._run.lower(run._state, jnp.zeros((2, 3))).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in program
