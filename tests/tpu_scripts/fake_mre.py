"""Stands for `mre` on a worker: notes its words and its environment, and ends as its name says.

The third word of the command: an exit code, `wait` (for SIGTERM, then 75) or `deaf` (to SIGTERM).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    words = sys.argv[1:]
    Path.home().joinpath("words.json").write_text(json.dumps(words))
    Path.home().joinpath("environment.json").write_text(json.dumps(dict(os.environ)))
    arguments = Path("/proc/self/cmdline").read_text()
    Path.home().joinpath("arguments").write_text(arguments)
    print("this is said")
    how = words[1]
    if how == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    elif how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        return int(how)
    Path.home().joinpath("listens").touch()
    while True:
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
