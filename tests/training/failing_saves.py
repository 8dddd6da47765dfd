"""A run whose files may not grow any more after its first checkpoint: FOLDER rename|commit_file."""

import json
import os
import resource
import sys

os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}  # One device: it starts faster.

from mre_jax.errors import MreError
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from tests.training.states import make_mesh, make_state


def main() -> int:
    folder, mode = sys.argv[1:]
    checkpoints = Checkpoints(folder, every=1, keep=3, commit_file=mode == "commit_file")
    mesh = make_mesh(1)
    try:
        for step in range(1, 6):
            state = make_state(step, mesh, width=8192)
            checkpoints.save(step, state, {})
            print(json.dumps({"begun": step}), flush=True)
            if step == 1:
                checkpoints._finish()
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        checkpoints.close()
    except MreError as error:
        print(json.dumps({"committed": checkpoints.committed()}), flush=True)
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
