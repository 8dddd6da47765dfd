"""The one file of settings, `pod.env`: lines of NAME=value, quoted as a shell would have it."""

import dataclasses
import difflib
import re
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from tpu_scripts.errors import SettingsError
from tpu_scripts.slices import Slice, find

_WORD = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEAST_SECRET = 8
"""Characters below which a value of the secrets' file may occur elsewhere by chance."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run, on what, and for how long; `pod.env.example` explains each.

    Each field is the setting of its name in capitals.
    """

    name: str
    zone: str
    project: str
    accelerator: str
    run: str
    command: tuple[str, ...]
    engine: Literal["queued", "gke"] = "queued"
    slices: int = 1
    spot: bool = True
    owner: str = ""
    hours: int = 72
    service_account: str = ""
    internal_ips: bool = False
    runtime: str = ""
    repository: str = ""
    commit: str = ""
    environment: tuple[str, ...] = ()
    secrets_file: str = ""
    secret: str = ""
    cluster: str = ""
    cluster_location: str = ""
    image: str = ""
    namespace: str = "default"
    submit: Literal["kubectl", "gcluster"] = "kubectl"
    max_attempts: int = 50
    max_crashes: int = 3
    max_stalled: int = 2
    grace_seconds: int = 300
    poll_seconds: float = 60
    retry_seconds: float = 15

    def __post_init__(self) -> None:
        self._check_names()
        self._check_code()
        self._check_command()
        for name in ("slices", "hours", "max_attempts", "max_crashes", "max_stalled"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name.upper()}={getattr(self, name)}: want 1 or more")
        for name in ("grace_seconds", "poll_seconds", "retry_seconds"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name.upper()}={getattr(self, name)}: want 0 or more")
        _check_secrets(self)

    @property
    def slice(self) -> Slice:
        """What `accelerator` names."""
        return find(self.accelerator)

    @property
    def workers(self) -> int:
        """Hosts of all slices, each of which runs one worker."""
        return self.slices * self.slice.hosts

    @property
    def alone(self) -> bool:
        """Whether each worker does a part by itself, as the command's {worker} says."""
        return any("{worker}" in word for word in self.command)

    @property
    def location(self) -> str:
        """Where the cluster is: in `cluster_location`, a region or zone, or in `zone`."""
        return self.cluster_location or self.zone

    @property
    def logs(self) -> str:
        """Where workers leave their logs, which outlive them: beside `run`, not in it."""
        return f"{self.run}.logs"

    @property
    def secrets(self) -> dict[str, str]:
        """The variables of `secrets_file`."""
        return read_secrets(Path(self.secrets_file)) if self.secrets_file else {}

    def _check_names(self) -> None:
        slice_ = self.slice  # raises
        if slice_.hosts > 1 and self.internal_ips and self.engine == "gke":
            raise SettingsError("INTERNAL_IPS is for ENGINE=queued; a GKE cluster has its own")
        for key, value in (("NAME", self.name), ("OWNER", self.owner or "x")):
            if not _WORD.fullmatch(value):
                raise SettingsError(
                    f"{key}={value!r}: want up to 30 small letters, digits and -, a letter first"
                )
        if not re.fullmatch(r"[a-z]+-[a-z]+[0-9]+-[a-z]", self.zone):
            raise SettingsError(f"ZONE={self.zone!r}: no zone; want one as us-west4-a")
        if not re.fullmatch(r"[a-z][a-z0-9:.-]{4,40}[a-z0-9]", self.project):
            raise SettingsError(f"PROJECT={self.project!r}: no project's id")
        if not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]+/[^\x00-\x20*?\[\]]+|/[^\x00]+", self.run):
            raise SettingsError(
                f"RUN={self.run!r}: want gs://BUCKET/FOLDER, or a folder that all workers share"
            )
        if self.run.endswith("/"):
            raise SettingsError(f"RUN={self.run!r}: without the / at its end")

    def _check_code(self) -> None:
        if self.engine == "gke":
            if not self.cluster:
                raise SettingsError("CLUSTER is missing: the GKE cluster of ENGINE=gke")
            if not re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", self.image):
                raise SettingsError(
                    f"IMAGE={self.image!r}: want NAME@sha256:..., as `docker push` prints it; a "
                    "tag may become another image in the middle of a run"
                )
            if self.submit == "gcluster" and (self.secrets_file or self.alone):
                raise SettingsError("SUBMIT=gcluster knows no SECRETS_FILE, no {worker}")
            return
        if not self.repository or self.repository.startswith("-"):
            raise SettingsError("REPOSITORY is missing: the address that workers clone from")
        if not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            raise SettingsError(
                f"COMMIT={self.commit!r}: want all 40 digits, as `git rev-parse HEAD` prints them"
            )

    def _check_command(self) -> None:
        if not self.command or self.command[0] != "mre":
            raise SettingsError("COMMAND: want a command of mre, as 'mre train configs/x.yaml ...'")
        if not any("{run}" in word for word in self.command):
            raise SettingsError("COMMAND has no {run}, where it is to leave what it makes")
        for entry in self.environment:
            name, equals, _ = entry.partition("=")
            if not equals or not _ENVIRONMENT_NAME.fullmatch(name):
                raise SettingsError(f"ENVIRONMENT: {entry!r} is not NAME=value")


def read_settings(path: Path) -> Settings:
    """Reads a file of settings. Nothing in it is executed.

    Raises:
        SettingsError: naming the line or the setting.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}; copy tpu_scripts/pod.env.example and fill it in"
        ) from None
    values: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise SettingsError(f"{path}:{number}: {error}") from None
        if not words:
            continue
        key, equals, value = words[0].partition("=")
        if len(words) > 1 or not equals:
            raise SettingsError(f"{path}:{number}: want NAME=value; quote a value with spaces")
        if key in values:
            raise SettingsError(f"{path}:{number}: {key} stands there twice")
        values[key] = value
    return from_values(values, str(path))


def from_values(values: Mapping[str, str], path: str = "settings") -> Settings:
    """The settings of these texts, by their names in capitals."""
    fields = {field.name.upper(): field for field in dataclasses.fields(Settings)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; is it {near[0]}?" if near else ""
            raise SettingsError(f"{path}: {key} is no setting{hint}")
    given = {key: value for key, value in values.items() if value}
    for key, field in fields.items():
        if field.default is dataclasses.MISSING and key not in given:
            raise SettingsError(f"{path}: {key} is missing")
    parsed = {fields[key].name: _parse(key, value, fields[key]) for key, value in given.items()}
    return Settings(**parsed)


def read_secrets(path: Path) -> dict[str, str]:
    """Variables of a file of NAME=value lines that nobody else may read.

    Raises:
        SettingsError: if others may, or a line is something else. No value is ever shown.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"SECRETS_FILE={path}: cannot be read") from None
    if mode & 0o077:
        raise SettingsError(f"SECRETS_FILE={path}: others can read it; chmod 600 it")
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _ENVIRONMENT_NAME.fullmatch(name):
            raise SettingsError(f"{path}:{number}: want NAME=value, without quotes")
        found[name] = value
    return found


def _check_secrets(settings: Settings) -> None:
    if settings.secret and not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", settings.secret):
        raise SettingsError("SECRET: want the name of a secret in Secret Manager, not its value")
    for field in dataclasses.fields(settings):
        if field.name == "secrets_file":
            continue
        said = str(getattr(settings, field.name))
        for name, value in settings.secrets.items():
            if len(value) >= _LEAST_SECRET and value in said:
                raise SettingsError(
                    f"{field.name.upper()} holds the value of {name}: leave it in SECRETS_FILE "
                    "alone, from where the command has it in its environment"
                )


def _parse(key: str, text: str, field: dataclasses.Field[Any]) -> Any:
    kind: Any = field.type
    try:
        if get_origin(kind) is Literal:
            if text not in get_args(kind):
                raise SettingsError(f"{key}={text!r}: want {' or '.join(get_args(kind))}")
            return text
        if get_origin(kind) is tuple:
            return tuple(shlex.split(text))
        if kind is bool:
            return {"yes": True, "no": False}[text]
        return kind(text)
    except KeyError:
        raise SettingsError(f"{key}={text!r}: want yes or no") from None
    except ValueError as error:
        raise SettingsError(f"{key}={text!r}: {error}") from None
