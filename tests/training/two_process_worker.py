"""One of two processes of a run: TASK FOLDER, with the coordinator in the environment."""

import json
import os
import sys

os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}

import jax
import numpy as np
from etils import epath

from mre_jax.errors import MreError
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.checkpoints.fingerprint import fingerprints
from mre_jax.training.checkpoints.replicas import compare_replicas
from mre_jax.training.liveness import guarded, start_distributed
from mre_jax.training.run import shared_directory
from mre_jax.training.run.shared_directory import check_shared
from tests.training.states import abstract, make_mesh, make_state, shardings


def restore_and_save(folder: str) -> None:
    mesh = make_mesh(jax.device_count())
    checkpoints = Checkpoints(folder, every=1, keep=3)
    restored = checkpoints.restore_newest(abstract_state(mesh))
    say(
        step=restored.step,
        fingerprints=fingerprints(restored.state),
        skipped=list(restored.skipped),
    )
    checkpoints.save(2, on(mesh, 12), {})
    checkpoints.close()
    say(committed=checkpoints.committed())


def drift(folder: str) -> None:
    mesh = make_mesh(jax.device_count())
    compare_replicas(on(mesh, 1), step=1)
    state = on(mesh, 1, bias=np.nextafter)
    try:
        compare_replicas(state, step=2)
    except MreError as error:
        say(error=str(error))
        raise


def share(folder: str) -> None:
    check_shared(epath.Path(folder))
    say(shared=True)


def share_not(folder: str) -> None:
    shared_directory.SECONDS = 0.5
    try:
        check_shared(epath.Path(folder) / str(jax.process_index()))
    except MreError as error:
        say(error=str(error))
        raise


TASKS = {
    "restore_and_save": restore_and_save,
    "drift": drift,
    "share": share,
    "share_not": share_not,
}


def on(mesh, seed, bias=None):
    """`make_state` on the devices of both processes; each gives its own copy."""
    state = make_state(seed, make_local_mesh())
    if bias is not None and jax.process_index() == 1:
        wrong = np.array(state["params"]["conv_in.bias"])
        wrong[3] = bias(wrong[3], np.float32(9))
        state["params"]["conv_in.bias"] = wrong

    def place(leaf, sharding):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.jit(lambda: jax.random.key(seed), out_shardings=sharding)()
        data = np.asarray(leaf)
        return jax.make_array_from_callback(data.shape, sharding, lambda index: data[index])

    return jax.tree.map(place, state, shardings(state, mesh))


def make_local_mesh():
    return jax.sharding.Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("data", "fsdp"))


def abstract_state(mesh):
    return abstract(make_state(0, make_local_mesh()), mesh)


def say(**values) -> None:
    print(json.dumps(values), flush=True)


def main() -> int:
    task, folder = sys.argv[1:]
    start_distributed()
    TASKS[task](folder)
    return 0


if __name__ == "__main__":
    with guarded():
        code = main()
    sys.exit(code)
