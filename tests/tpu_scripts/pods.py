"""Calls `tpu_scripts/pod` beside a cloud that costs nothing, and refuses to beside any other."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = ("gcloud", "gcluster", "kubectl", "gsutil", "ssh", "scp", "curl")
PATIENCE = float(os.environ.get("POD_PATIENCE", "300"))
"""Seconds that a call may take; most of one on an idle machine. Mutants may take for ever."""
# A shell that starts the tests in the background has all that they start ignore SIGINT.
_POD = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
COMMAND = "mre train configs/reward_ip2p.yaml 'data.paths=[gs://bucket/cached]' --run {run}"
SETTINGS = {
    "NAME": "reward-1",
    "PROJECT": "my-project",
    "ZONE": "us-west4-a",
    "ACCELERATOR": "v4-16",
    "RUN": "gs://bucket/runs/r",
    "COMMAND": COMMAND,
    "REPOSITORY": "https://example.org/mre_jax",
    "COMMIT": "0123456789" * 4,
    "POLL_SECONDS": "0",
    "RETRY_SECONDS": "0",
}
GKE = {
    "ENGINE": "gke",
    "CLUSTER": "c",
    "IMAGE": f"us-docker.pkg.dev/p/r/mre@sha256:{'0' * 64}",
}


class Cloud:
    """The programs on a PATH of their own, and what was asked of them.

    Args:
        folder: empty.
        script: of `tests.tpu_scripts.cloud`.
        scripts: folder of the scripts under test.
    """

    def __init__(self, folder: Path, script: dict[str, Any], scripts: Path = ROOT / "tpu_scripts"):
        self.folder, self._scripts = folder, scripts
        self.programs = folder / "programs"
        self.programs.mkdir()
        stub = Path(__file__).with_name("cloud.py")
        for name in PROGRAMS:
            program = self.programs / name
            program.write_text(f"#!{sys.executable} -SE\n{stub.read_text()}")
            program.chmod(0o755)
        (folder / "script.json").write_text(json.dumps(script))
        self.path = str(self.programs)

    @property
    def environment(self) -> dict[str, str]:
        """Without the user's own account, and without any other program.

        Raises:
            RuntimeError: if a program on its PATH is not the stub.
        """
        for name in PROGRAMS:
            check_stub(name, self.path, self.programs)
        return {
            "PATH": self.path,
            "HOME": str(self.folder),
            "CLOUDSDK_CONFIG": str(self.folder / "config"),
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "POD_CLOUD": str(self.folder),
        }

    def pod(
        self, verb: str, *options: str, patience: float = PATIENCE, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a verb with the settings of `SETTINGS` and these; it has `patience` seconds."""
        file = self.write(**settings)
        pod = str(self._scripts / "pod")
        return subprocess.run(
            [sys.executable, "-c", _POD, pod, verb, "--settings", str(file), *options],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience,
        )

    def write(self, **settings: str) -> Path:
        """Writes the settings."""
        file = self.folder / "pod.env"
        lines = [f"{key}={shlex.quote(value)}" for key, value in (SETTINGS | settings).items()]
        file.write_text("\n".join(lines) + "\n")
        return file

    def refuse(self, part: str, said: str) -> None:
        """From now on calls with this part in them fail."""
        file = self.folder / "script.json"
        script = json.loads(file.read_text())
        file.write_text(json.dumps(script | {"fail": [[part, 1, said, 99]]}))

    def raw_calls(self) -> list[dict[str, Any]]:
        """All calls so far: words, and what they were given to read."""
        file = self.folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def calls(self) -> str:
        """All calls, one a line, the same in each run: attempts are numbered.

        What every call of a kind must have is told in a word: PLACE, EVERYWHERE.
        """
        lines = "\n".join(shlex.join(call["words"]) for call in self.raw_calls())
        lines = lines.replace("--project=my-project --zone=us-west4-a", "PLACE")
        lines = lines.replace("--node=all --worker=all --batch-size=all", "EVERYWHERE")
        names = dict.fromkeys(re.findall(r"ATTEMPT=(\d{8}-\d{6}\.\d{6})", lines))
        for number, name in enumerate(names, start=1):
            lines = lines.replace(name, f"attempt-{number}")
        return lines.replace(str(self._scripts), "tpu_scripts").replace(str(self.folder), "FOLDER")


def check_stub(name: str, path: str, programs: Path) -> None:
    """Refuses a PATH on which a program of the cloud is the real one."""
    found = shutil.which(name, path=path)
    if found is not None and Path(found).parent != programs:
        raise RuntimeError(f"{name} on the tests' PATH is {found}: a test could cost money")


def check_calls(name: str, cloud: Cloud) -> None:
    """Compares the calls with those recorded; with RECORD_CALLS set, records them."""
    file = Path(__file__).with_name("calls") / f"{name}.txt"
    if os.environ.get("RECORD_CALLS"):
        file.write_text(cloud.calls() + "\n")
    assert cloud.calls().splitlines() == file.read_text().splitlines()
