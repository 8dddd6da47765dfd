"""`gather` says whose part is missing, and makes one of parts that can be one."""

import json

import pytest

from tests.tpu_scripts.pods import Cloud

SAMPLE = "mre sample items.jsonl --out {run} --shard {worker}/{workers}"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "a run"
    folder.mkdir()
    return folder


@pytest.fixture
def gather(tmp_path, run):
    cloud = Cloud(tmp_path, {})
    return lambda command: cloud.pod("gather", RUN=str(run), COMMAND=command)


def end(run, attempt, codes):
    """What workers leave when their command has ended."""
    folder = run.with_name(f"{run.name}.logs") / attempt
    folder.mkdir(parents=True)
    for worker, code in codes.items():
        row = {"attempt": attempt, "worker": worker, "exit_code": code}
        (folder / f"worker-{worker}.json").write_text(json.dumps(row))


def test_lists_of_edits_become_one(run, gather):
    end(run, "20261101-000000.000000", {0: 75, 1: 75})
    end(run, "20261102-000000.000000", {0: 0, 1: 0})
    for worker in range(2):
        rows = "".join(f'{{"id": "{worker}-{number}"}}\n' for number in range(3))
        (run / f"results-{worker:05d}-of-00002.jsonl").write_text(rows)
    (run / "failed-00001-of-00002.jsonl").write_text('{"id": "x"}\n')
    done = gather(SAMPLE)
    assert done.returncode == 0, done.stderr
    assert f"{run}/results.jsonl: 6 items of 2 parts" in done.stdout
    assert f"{run}/failed.jsonl: 1 items of 1 parts" in done.stdout
    rows = [json.loads(line)["id"] for line in (run / "results.jsonl").read_text().splitlines()]
    assert rows == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]


def test_whose_part_is_missing_is_said(run, gather):
    end(run, "20261102-000000.000000", {1: 65})
    done = gather(SAMPLE)
    assert done.returncode == 75
    assert "2 of 2 parts are missing, of worker 0 (has not ended), 1 (exit code 65)" in done.stderr
    assert not (run / "results.jsonl").exists()


def test_a_good_attempt_of_before_does_not_hide_a_bad_one(run, gather):
    end(run, "20261101-000000.000000", {0: 0, 1: 0})
    end(run, "20261102-000000.000000", {0: 0, 1: 137})
    assert "1 (exit code 137)" in gather(SAMPLE).stderr


def test_files_named_after_workers_become_one(run, gather):
    end(run, "20261102-000000.000000", {0: 0, 1: 0})
    for worker in range(2):
        (run / f"journal-{worker}.jsonl").write_text(f"{worker}\n")
    command = "mre annotate part-{worker} --judge toy --out {run}/journal-{worker}.jsonl"
    assert f"{run}/journal.jsonl: 2 parts" in gather(command).stdout
    assert (run / "journal.jsonl").read_text() == "0\n1\n"


def test_folders_of_a_set_are_listed_for_training(run, gather):
    end(run, "20261102-000000.000000", {0: 0, 1: 0})
    command = "mre data cache set/part-{worker} --model m --out={run}/part-{worker}"
    assert f"data.paths=[{run}/part-0,{run}/part-1]" in gather(command).stdout


def test_results_are_listed_for_tables(run, gather):
    end(run, "20261102-000000.000000", {0: 0, 1: 0})
    command = "mre evaluate real-edit d --shard {worker}/{workers} --out {run}/part-{worker}"
    assert f"mre tables '{run}/part-0' '{run}/part-1'" in gather(command).stdout


def test_what_does_not_shard_is_refused(gather):
    done = gather("mre sample items.jsonl --out {run}")
    assert done.returncode == 78 and "no {worker}" in done.stderr


def test_in_a_bucket(tmp_path):
    """By the same calls that a user would make."""
    cloud = Cloud(tmp_path, {"bucket_files": {}})
    done = cloud.pod("gather", COMMAND=SAMPLE)
    assert done.returncode == 75
    assert cloud.calls() == "gcloud storage ls 'gs://bucket/runs/r.logs/*/worker-*.json'"
