"""Two processes that meet as those of a run do, one of them with other variables."""

import json
import os
import subprocess
import sys

import pytest

from tests.training.train_files import free_port


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "--xla_cpu_enable_fast_math=true"])
def test_every_worker_reports_and_what_differs_is_named(config_file, tmp_path, flags):
    port, processes = free_port(), []
    command = [sys.executable, "-m", "mre_jax", "doctor", str(config_file), "--json"]
    for number in range(2):
        environment = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(number),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags if number else "",
        }
        with (tmp_path / f"{number}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [*command, "--run", str(tmp_path / "run"), "--devices=2"],
                    env=os.environ | environment,
                    stdout=log,
                    stderr=subprocess.DEVNULL,
                )
            )
    codes = [process.wait(300) for process in processes]
    said = [(tmp_path / f"{number}.log").read_text() for number in range(2)]
    diagnosis = json.loads(said[0][said[0].index("{") :])
    assert [report["worker"] for report in diagnosis["reports"]] == [0, 1]
    assert "{" not in said[1]
    between = [finding["says"] for finding in diagnosis["between"]]
    if flags:
        assert codes == [78, 78]
        (said_of_it,) = between
        assert said_of_it.startswith("XLA_FLAGS differs:") and "fast_math" in said_of_it
    else:
        assert codes == [0, 0] and not between
        failures = [
            finding
            for report in diagnosis["reports"]
            for finding in report["findings"]
            if finding["level"] == "failure"
        ]
        assert not failures
