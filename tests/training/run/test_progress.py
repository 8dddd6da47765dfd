"""A run is followed on a terminal by a bar, and elsewhere line by line."""

import re
import sys

import pytest

from mre_jax.training.run.progress import Progress

FIRST = {"loss": 0.25}
LATER = {"loss": 0.125, "images_per_second": 512.34, "step_seconds": 0.5}


def follow(**settings):
    progress = Progress("tiny", 100, 10, **{"shown": True, **settings})
    for done, row in ((11, FIRST), (20, LATER)):
        progress.step()
        progress.row(done, row)
    progress.close()


def test_a_log_gets_a_line_for_each_row(capsys):
    follow()
    assert capsys.readouterr().err.splitlines() == [
        "step 11/100: loss 0.2500",
        "step 20/100: loss 0.1250, 512 images/s, 0:00:40 left",
    ]


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    follow()
    told = capsys.readouterr().err
    assert "tiny:" in told and "loss=0.1250" in told
    assert not re.search(r"^step ", told, re.MULTILINE)


@pytest.mark.parametrize("terminal", [True, False])
def test_processes_that_do_not_write_say_nothing(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    follow(shown=False)
    assert capsys.readouterr().err == ""
