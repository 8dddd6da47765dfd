"""Estimates against programs that were compiled: memory within 10 %, time within 25 %."""

import dataclasses
from pathlib import Path

import pytest

from mre_jax.errors import ConfigError
from mre_jax.planning.calibration import GIB, compiled_programs, fitted, keep
from mre_jax.planning.hardware import slice_named
from mre_jax.planning.memory import copy_bytes, kept_bytes, layout_on, memory_of
from mre_jax.planning.timing import operations, time_of
from mre_jax.planning.work import sizes_of, work_of
from mre_jax.training.config import load_config

OURS = compiled_programs(own=Path("nowhere"))


def name_of(program):
    remat = " remat" * program.remat
    return f"{program.topology} batch {program.batch} fsdp {program.fsdp}{remat} {program.inputs}"


@pytest.mark.parametrize("number", range(len(OURS)), ids=[name_of(one) for one in OURS])
def test_each_program_is_foreseen_from_the_others(number):
    one, others = OURS[number], [*OURS[:number], *OURS[number + 1 :]]
    fit = fitted(others)
    memory = one.arguments + fit.temporary(one.copy, one.kept) / GIB
    assert memory == pytest.approx(one.arguments + one.temporary, rel=0.10)
    milliseconds = fit.seconds(one.chip, one.arithmetic) * 1e3
    assert milliseconds == pytest.approx(one.milliseconds, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("one", OURS, ids=name_of)
def test_what_is_traced_is_what_was_compiled(one):
    """The whole way from a configuration to figures, against each program."""
    where = slice_named(one.topology)
    config = load_config(
        "configs/reward_ip2p.yaml",
        [
            "model.attention=tpu",
            f"data.batch_size={one.batch * where.chips}",
            f"data.resolution={one.pixels}",
            f"model.remat={str(one.remat).lower()}",
            f"mesh.fsdp={one.fsdp}",
        ],
    )
    sizes = sizes_of(config.model)
    work = work_of(config.model, sizes, one.pixels)
    assert kept_bytes(work) * one.batch == one.kept
    assert copy_bytes(work, config, layout_on(where, config.mesh)) == one.copy
    assert operations(config, work, one.inputs) * one.batch == one.arithmetic
    fit = fitted(OURS)
    memory = memory_of(config, work, sizes, where, one.inputs, fit)
    assert memory.arguments == pytest.approx(one.arguments, abs=0.02)
    assert memory.needed == pytest.approx(one.arguments + one.temporary, rel=0.10)
    time = time_of(config, work, where, one.inputs, fit)
    assert time.compute * 1e3 == pytest.approx(one.milliseconds, rel=0.25)


def test_the_stated_error_is_the_largest():
    fit = fitted(OURS)
    assert 0 < fit.memory_error < 0.10
    assert 0 < fit.time_error < 0.25


def test_what_a_user_compiles_is_kept_once_and_counts(tmp_path):
    file = tmp_path / "own" / "compiled.yaml"
    slow = dataclasses.replace(OURS[0], milliseconds=2 * OURS[0].milliseconds, batch=4)
    assert keep(slow, file) == file
    keep(dataclasses.replace(slow, date="2026-12-01"), file)
    programs = compiled_programs(own=file)
    assert len(programs) == len(OURS) + 1
    assert programs[-1].date == "2026-12-01"
    assert fitted(programs).shares["v5e"] < fitted(OURS).shares["v5e"]


def test_a_damaged_file_of_a_user_is_named(tmp_path):
    file = tmp_path / "compiled.yaml"
    file.write_text("- {topology: v5e:4x4}")
    with pytest.raises(ConfigError, match=r"compiled.yaml is damaged; remove it"):
        compiled_programs(own=file)
