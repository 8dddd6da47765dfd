"""Variables that a former launch, or a test, has left behind."""

from collections.abc import Iterator

from mre_jax.doctor.finding import RETRY, Finding, failure, ok, warning
from mre_jax.doctor.machine import Machine

CHECK = "environment"
JOINING = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
DEBUGGING = ("JAX_DISABLE_JIT", "JAX_DEBUG_NANS", "JAX_ENABLE_X64")
FOR_TESTS = (
    "xla_force_host_platform_device_count",
    "xla_backend_optimization_level=0",
    "xla_llvm_disable_expensive_passes",
)
COMPARED = (
    *("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR"),
    *("JAX_NUM_PROCESSES", "JAX_COORDINATOR_ADDRESS", "HF_HUB_OFFLINE", *DEBUGGING),
)
"""What must be the same on every worker."""


def check_environment(machine: Machine) -> Iterator[Finding]:
    """Variables that keep a run from starting, or from using its chips.

    Example:
        >>> machine = Machine(environment={"MEGASCALE_COORDINATOR_ADDRESS": "10.0.0.2"})
        >>> [finding.level for finding in check_environment(machine)]
        ['failure']
    """
    found = [*_megascale(machine), *_platforms(machine), *_joining(machine), *_switches(machine)]
    yield from found or [ok(CHECK, "nothing left behind")]


def _megascale(machine: Machine) -> Iterator[Finding]:
    names = sorted(name for name in machine.environment if name.startswith("MEGASCALE_"))
    slices = machine.environment.get("MEGASCALE_NUM_SLICES", "1")
    if names and slices == "1":
        yield failure(
            CHECK,
            f"{', '.join(names)} set, of a run on several slices: processes would wait for it",
            f"unset {' '.join(names)}",
            RETRY,
        )


def _platforms(machine: Machine) -> Iterator[Finding]:
    platforms = machine.environment.get("JAX_PLATFORMS", "")
    if machine.chips() and platforms == "cpu":
        yield failure(
            CHECK,
            f"JAX_PLATFORMS=cpu, and there are {len(machine.chips())} accelerators",
            "unset JAX_PLATFORMS",
        )
    if not machine.tpu_chips() and "tpu" in platforms.split(",")[0]:
        yield failure(
            CHECK, f"JAX_PLATFORMS={platforms}, and no TPU is here", "unset JAX_PLATFORMS"
        )


def _joining(machine: Machine) -> Iterator[Finding]:
    given = [name for name in JOINING if machine.environment.get(name)]
    if given and len(given) < len(JOINING):
        yield failure(
            CHECK,
            f"{', '.join(given)} without the others of {', '.join(JOINING)}",
            "set all three or none",
        )


def _switches(machine: Machine) -> Iterator[Finding]:
    environment = machine.environment
    for name in DEBUGGING:
        if environment.get(name, "").lower() in ("1", "true", "on", "yes"):
            yield warning(CHECK, f"{name} is on: slower, or of another precision", f"unset {name}")
    flags = environment.get("XLA_FLAGS", "")
    if machine.chips() and (left := [flag for flag in FOR_TESTS if flag in flags]):
        yield warning(CHECK, f"XLA_FLAGS has {', '.join(left)}, which is for tests", "unset it")
    for name in ("TPU_VISIBLE_CHIPS", "TPU_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        if machine.chips() and name in environment:
            shown = environment[name] or "nothing"
            yield warning(CHECK, f"{name} leaves {shown} of the chips", f"unset {name} for all")
