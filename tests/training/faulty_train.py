"""`mre` with a fault at some step of training, for the tests of what a run survives.

Usage: FAULT train ...; FAULT is "" or one of

    hang:5      step 5 never begins
    crash:5     step 5 raises an error that nobody foresaw
    nan:3,4     the batches of steps 3 and 4 hold a reward that is not a number
    slow:0.2    every step takes that many seconds longer
    show        the fingerprints of the state before the first step are printed
"""

import json
import sys
import time

import jax.numpy as jnp

from mre_jax import cli
from mre_jax.training import train as train_module
from mre_jax.training.checkpoints.fingerprint import fingerprints


def main() -> int:
    fault, *arguments = sys.argv[1:]
    kind, _, value = fault.partition(":")
    compiled_step = train_module.compiled_step
    shown = False

    def make_faulty_step(*settings):
        step = compiled_step(*settings)

        def faulty(state, frozen, batch):
            nonlocal shown
            done = int(state["step"]) + 1
            if kind == "show" and not shown:
                print(json.dumps({"fingerprints": fingerprints(state)}), flush=True)
                shown = True
            elif kind == "slow":
                time.sleep(float(value))
            elif str(done) in value.split(","):
                batch = act(kind, batch)
            return step(state, frozen, batch)

        return faulty

    if kind:
        train_module.compiled_step = make_faulty_step
    return cli.main(arguments)


def act(kind, batch):
    if kind == "hang":
        time.sleep(3600)
    if kind == "crash":
        raise RuntimeError("a bug")
    return batch._replace(scores=jnp.full_like(batch.scores, jnp.nan))


if __name__ == "__main__":
    sys.exit(main())
