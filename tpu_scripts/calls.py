"""Calling the programs of the cloud: bounded tries, nothing secret shown, or only what would be."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from tpu_scripts.errors import CallError, SettingsError

_TRIES = 4
_SECONDS = 1800.0
_PASSING = (
    "connection reset",
    "deadline exceeded",
    "internal error",
    "rate limit",
    "temporarily unavailable",
    "timed out",
    "too many requests",
    "unavailable",
)
"""What a cloud says of troubles that pass by themselves."""


class Calls:
    """Starts programs.

    Args:
        secrets: whose values are never printed.
        dry_run: print what would be called, and call nothing.
        retry_seconds: pause before the first retry; each is twice as long as the one before.
        log: takes lines for the user.
    """

    def __init__(
        self,
        secrets: Mapping[str, str] | None = None,
        *,
        dry_run: bool = False,
        retry_seconds: float = 15,
        log: Callable[[str], object] | None = None,
    ):
        self._secrets = [value for value in (secrets or {}).values() if value]
        self.dry_run = dry_run
        self._retry_seconds = retry_seconds
        self._log = log or (lambda line: print(line, file=sys.stderr, flush=True))

    def say(self, line: str) -> None:
        """Tells the user."""
        self._log(self.redacted(line))

    def redacted(self, text: str) -> str:
        """The text without secrets."""
        for value in self._secrets:
            text = text.replace(value, "***")
        return text

    def run(self, *words: str, stdin: str | None = None, tries: int = _TRIES) -> str:
        """Calls a program and returns what it prints.

        Args:
            tries: times to call it if it fails for what passes by itself, or ssh does (255).

        Raises:
            SettingsError: if there is no such program.
            CallError: if it failed, with the last thing it said.
        """
        if self.dry_run:
            self.say(f"would run: {shlex.join(words)}")
            return ""
        for left in range(tries - 1, -1, -1):
            code, out, err = self.attempt(*words, stdin=stdin)
            if code == 0:
                return out
            said = (err.strip() or out.strip() or "nothing was said").splitlines()
            passing = code == 255 or any(word in err.lower() for word in _PASSING)
            # A quota stays used up; the word "exceeded" alone would be tried in vain.
            if not left or not passing or "quota" in err.lower():
                break
            pause = self._retry_seconds * 2 ** (tries - 1 - left)
            self.say(f"{words[0]}: {said[-1]} (exit {code}); again in {pause:g} s")
            time.sleep(pause)
        raise CallError(
            self.redacted(f"{shlex.join(words[:4])} failed (exit {code}): {said[-1]}"), err + out
        )

    def attempt(self, *words: str, stdin: str | None = None) -> tuple[int, str, str]:
        """Calls a program once; its exit code, and what it printed.

        Raises:
            SettingsError: if there is no such program.
        """
        if self.dry_run:
            self.say(f"would run: {shlex.join(words)}")
            return 0, "", ""
        if shutil.which(words[0]) is None:
            raise SettingsError(f"{words[0]} is not there: install it, or put it on PATH")
        try:
            done = subprocess.run(
                words, input=stdin, capture_output=True, text=True, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired:
            return 255, "", f"timed out after {_SECONDS:g} s"
        return done.returncode, done.stdout, done.stderr
