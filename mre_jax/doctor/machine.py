"""The machine that is looked at: its files, clock, variables, programs and the web, in one place.

Checks see the machine through this alone, so that a test can show them another one.
"""

import dataclasses
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mre_jax.io.processes import output_of

SECONDS = 20.0
"""After which a server that does not answer is given up."""

ZONE_URL = "http://metadata.google.internal/computeMetadata/v1/instance/zone"


@dataclasses.dataclass(frozen=True)
class Answer:
    """Of a server.

    Attributes:
        status: HTTP status.
        text: body, at most a megabyte of it.
        date: the server's clock, as its header has it; "" without.
    """

    status: int
    text: str = ""
    date: str = ""


def get(url: str, headers: Mapping[str, str]) -> Answer:
    """Reads an address.

    Raises:
        OSError: if nothing answers.
    """
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310  as the caller has it
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:  # noqa: S310
            text = reply.read(2**20).decode(errors="replace")
            return Answer(reply.status, text, reply.headers.get("Date", ""))
    except urllib.error.HTTPError as error:
        return Answer(error.code, "", error.headers.get("Date", ""))
    except ValueError as error:  # of an address that is none
        raise OSError(str(error)) from None


def _user() -> int:
    """0 where users have no numbers."""
    return os.getuid() if hasattr(os, "getuid") else 0


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the checks see of a machine; the defaults are this one.

    Attributes:
        root: folder of its files: /dev, /proc and /tmp are looked for in it.
        environment: its variables.
        pid: number of this process.
        user: number of this user.
        now: seconds since 1970.
        free: free bytes of the disk that a path is on.
        which: the path of a program; None if it is not there.
        run: what a program prints; see `output_of`.
        get: asks a server; see `get`.

    Example:
        >>> Machine(environment={"CLOUDSDK_COMPUTE_ZONE": "us-west4-a"}).zone()
        'us-west4-a'
    """

    root: Path = Path("/")
    environment: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(os.environ))
    pid: int = dataclasses.field(default_factory=os.getpid)
    user: int = dataclasses.field(default_factory=_user)
    now: Callable[[], float] = time.time
    free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    which: Callable[[str], str | None] = shutil.which
    run: Callable[[Sequence[str]], str | None] = output_of
    get: Callable[[str, Mapping[str, str]], Answer] = get

    def chips(self) -> list[Path]:
        """The device files of accelerators, as TPU drivers and NVIDIA's name them."""
        dev = self.root / "dev"
        found = [*dev.glob("accel[0-9]*"), *dev.glob("vfio/[0-9]*"), *dev.glob("nvidia[0-9]*")]
        return sorted(found)

    def tpu_chips(self) -> list[Path]:
        """Those of TPUs."""
        return [path for path in self.chips() if not path.name.startswith("nvidia")]

    def zone(self) -> str | None:
        """The zone of Google's cloud that it stands in; None elsewhere.

        Only a machine with TPUs, or whose name for it is set, is asked: elsewhere nothing answers.
        """
        if zone := self.environment.get("CLOUDSDK_COMPUTE_ZONE"):
            return zone
        if not self.tpu_chips():
            return None
        try:
            answer = self.get(ZONE_URL, {"Metadata-Flavor": "Google"})
        except OSError:
            return None
        return answer.text.strip().rpartition("/")[2] if answer.status == 200 else None
