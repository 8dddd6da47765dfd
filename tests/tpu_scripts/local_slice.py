"""A slice whose hosts are folders of this machine: what ssh is asked to run is run in each."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tpu_scripts.pods import ROOT, Cloud


class LocalSlice:
    """Two workers, and the cloud that has them.

    Args:
        folder: empty.
        mre: what `mre` is on them, as a shell has it.
        environment: variables of both; PATH is that of the stubs, then this.
        own: variables of each.
        ready: whether the slice is there already.
        scripts: folder of the scripts under test.
    """

    def __init__(
        self,
        folder: Path,
        mre: str,
        environment: dict[str, str],
        own: list[dict[str, str]],
        *,
        ready: bool = False,
        scripts: Path = ROOT / "tpu_scripts",
    ):
        self.homes = [folder / "slice" / f"worker {number}" for number in range(len(own))]
        place = folder / "cloud"
        place.mkdir(parents=True)
        path = f"{place / 'programs'}:{environment['PATH']}"
        given = {"TEST_PYTHON": sys.executable, "TEST_MRE": mre, "PATH": path}
        given["POD_CLOUD"] = str(place)
        script: dict[str, Any] = {
            "homes": [str(home) for home in self.homes],
            "environment": environment | given,
            "own": own,
            "state": "ACTIVE" if ready else "MISSING",
        }
        self.cloud = Cloud(place, script, scripts)
        shutil.copy(Path(__file__).with_name("uv.sh"), self.cloud.programs / "uv")
        if ready:
            for home in self.homes:
                home.mkdir(parents=True)
        self.code = self._commit(folder / "it's a; repository", scripts)

    def take_away(self) -> None:
        """Whatever the next call to the cloud is, the slice is gone."""
        (self.cloud.folder / "taken").touch()

    def processes(self, worker: int) -> list[int]:
        """Those of attempts that are there, on a worker."""
        files = self.homes[worker].glob(".mre_pod/*/*/pid")
        return [process for process in map(_number, files) if _lives(process)]

    def _commit(self, repository: Path, scripts: Path) -> dict[str, str]:
        """The scripts as a repository's only commit."""
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(scripts, repository / "tpu_scripts", ignore=ignored)

        def git(*words: str) -> str:
            who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
            words = ("git", "-C", str(repository), *who, *words)
            return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

        git("init", "--quiet")
        git("add", ".")
        git("commit", "--quiet", "--message", "scripts")
        return {"REPOSITORY": str(repository), "COMMIT": git("rev-parse", "HEAD")}


def _number(file: Path) -> int:
    return int(file.read_text())


def _lives(process: int) -> bool:
    """Whether it is there, and is not just waiting to be forgotten."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except FileNotFoundError:
        return False
