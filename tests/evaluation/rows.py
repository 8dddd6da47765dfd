"""Result rows for tests."""

from mre_jax.evaluation.results import Result


def make_row(**fields):
    values = {
        "system": "a",
        "condition": "",
        "suite": "real-edit",
        "item": "0-1",
        "group": "0",
        "kind": "Local",
        "metric": "following",
        "value": 3.0,
        "passed": True,
        "status": "ok",
        "measure": "toy-1",
        "prompt_hash": "p",
        "checkpoint": "c",
        "reason": "",
        "instruction": "make it red",
        "original": "",
        "edited": "",
    }
    values.update(fields)
    if values["status"] != "ok":
        values.update(value=None, passed=None)
    return Result(**values)


def series(values, per_group=7, **fields):
    """Rows of consecutive items, some in a group."""
    return [
        make_row(
            item=f"{index // per_group}-{index % per_group + 1}",
            group=str(index // per_group),
            value=float(value),
            **{"passed": bool(value >= 3), **fields},
        )
        for index, value in enumerate(values)
    ]
