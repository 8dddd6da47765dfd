"""A training step for TPUs, compiled on this machine: what would fail or be slow only there."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mre_jax.planning.compiling import Collective, collectives, estimated_cycles

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "tpu.py"

# A gather that goes on beside other work, a sum of which each chip keeps a part, a sum of two.
PROGRAM = """
%start (p: bf16[4,8]) -> bf16[16,8] {
  ROOT %g = bf16[16,8]{1,0:T(8,128)(2,1)S(1)} all-gather(%p), channel_id=3, dimensions={0}
}

%done (p: bf16[4,8]) -> bf16[16,8] {
  ROOT %g.1 = bf16[16,8]{1,0:T(8,128)(2,1)S(1)} all-gather(%p), channel_id=3, dimensions={0}
}

%all-reduce-scatter.1 (p: bf16[16,8]) -> bf16[4,8] {
  %r = bf16[16,8]{1,0} all-reduce(%p), channel_id=3, to_apply=%add
}

ENTRY %main (p: f32[4,8]) -> f32[] {
  %c = bf16[4,8]{1,0} convert(%p), backend_config={"estimated_cycles":"6272"}
  %a = (f32[32]{0:T(128)}, /*index=1*/f32[]{:T(128)}) all-reduce(%x, %y), channel_id=5
  %f = f32[] fusion(%a), backend_config={"window_config":{"estimated_cycles":"28"}}
}
"""


def test_cycles_of_all_operations_are_added():
    assert estimated_cycles(PROGRAM) == 6300


def test_transfers_are_counted_once_and_by_what_travels():
    assert collectives(PROGRAM) == {
        Collective("all-gather", "bf16"): 2 * 16 * 8,
        Collective("reduce-scatter", "bf16"): 2 * 16 * 8,
        Collective("all-reduce", "f32"): 4 * (32 + 1),
    }


def compiled(*arguments):
    """Numbers by name, from what the benchmark prints of a tiny step on four chips."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs the extra tpu")
    command = [sys.executable, BENCHMARK, "--tiny", "--topology=v5e:2x2", "--batch=2", *arguments]
    # The flags are those of the tests on a CPU.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    rows = re.findall(r"^([a-z].*?)  +([\d.]+)\b", run.stdout, re.MULTILINE)
    return {name: float(value) for name, value in rows}


def check_transfers(rows):
    # Weights travel in half their bytes, and gradients arrive in parts.
    assert rows["all-gather bf16"] > 0.1
    assert rows["reduce-scatter bf16"] > 0.1
    assert "all-gather f32" not in rows
    # Vectors and what is told of the step.
    assert rows.get("all-reduce f32", 0) < 0.1 * rows["all-gather bf16"]


@pytest.mark.slow
def test_a_step_compiles_for_a_tpu_and_gathers_weights_in_bfloat16():
    rows = compiled("--pixels=32")
    check_transfers(rows)
    assert 0 < rows["arguments, GiB"] <= rows["peak, GiB"] < 1
    assert rows["estimated ms"] > rows["floor, ms"]


@pytest.mark.slow
def test_a_step_with_the_attention_kernel_compiles():
    check_transfers(compiled("--pixels=256"))
