import dataclasses
import json

import pytest

from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.judges.journal import Journal, read_verdicts
from mre_jax.judges.verdict import Verdict

VERDICT = Verdict("k1", "a", "following", "ok", 4, text="it's \u201cdark\u201d\n", usd=0.5)


def test_verdicts_come_back_as_they_were_and_the_last_one_wins(tmp_path):
    path = tmp_path / "j.jsonl"
    later = dataclasses.replace(VERDICT, score=3, usd=0.25)
    other = dataclasses.replace(VERDICT, item="b", usd=0.0)
    with Journal(path) as journal:
        for verdict in (VERDICT, other, later):
            journal.append(verdict)
    with Journal(path) as journal:
        assert journal.find("k1", "a") == later
        assert journal.find("k1", "b") == other
        assert journal.find("k1", "c") is None
        assert journal.find_answer("k1") == later
        assert journal.spent == 0.75  # both were paid for
    assert list(read_verdicts(path)) == [other, later]


@pytest.mark.parametrize("cut", [1, 20, 80])
def test_a_torn_last_line_is_cut_off(tmp_path, cut):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append(VERDICT)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:cut])
    assert list(read_verdicts(path)) == [VERDICT]
    with Journal(path) as journal:
        assert path.read_bytes() == whole
        journal.append(dataclasses.replace(VERDICT, key="k2"))
    assert len(list(read_verdicts(path))) == 2


def test_what_was_reserved_counts_until_it_is_answered(tmp_path):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.reserve("k1", 2.0)
        journal.reserve("k2", 3.0)
        assert journal.spent == 5.0
        journal.append(VERDICT)
        assert journal.spent == 3.5
        journal.release("k2")
        assert journal.spent == 0.5


def test_a_request_of_a_killed_process_stays_paid(tmp_path):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.reserve("k1", 2.0)
    with Journal(path) as journal:
        assert journal.spent == 2.0
        journal.reserve("k1", 2.0)
        journal.append(VERDICT)
        assert journal.spent == 2.5


def test_there_is_one_writer(tmp_path):
    with Journal(tmp_path / "j.jsonl"), pytest.raises(BusyError):
        Journal(tmp_path / "j.jsonl").__enter__()


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps({"a": 1}) + "\n")
    with pytest.raises(DataError, match=r"j\.jsonl:1: no record of a journal"):
        Journal(path).__enter__()
    assert path.read_text() == '{"a": 1}\n'
    with Journal(tmp_path / "other.jsonl"):
        pass  # the lock of a refused file is not held
    for bad in ("gs://bucket/j.jsonl", str(tmp_path)):
        with pytest.raises(ConfigError):
            Journal(bad).__enter__()


def test_a_full_disk_leaves_no_half_a_record(tmp_path, monkeypatch):
    import errno
    import os

    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append(VERDICT)
        whole = path.read_bytes()
        write = os.write

        def full(descriptor, data):
            if len(data) < 10:
                raise OSError(errno.ENOSPC, "full")
            return write(descriptor, data[: len(data) - 5])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(DataError, match="no space left"):
            journal.append(dataclasses.replace(VERDICT, key="k2"))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("change", [{"status": "fine"}, {"score": "4"}, {"usage": 3}, {"x": 1}])
def test_a_damaged_verdict_is_named(tmp_path, change):
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps({"kind": "verdict", **VERDICT.to_json(), **change}) + "\n")
    with pytest.raises(DataError):
        list(read_verdicts(path))
