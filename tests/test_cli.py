"""The command line answers, and turns every error of a user's into one line and an exit code."""

import argparse
import ast
import io
import subprocess
import sys
from pathlib import Path

import pytest

from mre_jax import cli


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    assert "usage: mre " + command in capsys.readouterr().out


def test_help_does_not_import_jax():
    code = "import sys, mre_jax.cli; print('jax' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert output.strip() == "False"


def test_an_error_is_one_line_and_its_exit_code(capsys):
    code = cli.main(["edit", "missing.png", "make it snow", "--model", "nowhere", "-o", "x.png"])
    assert code == 65
    error = capsys.readouterr().err
    assert error.startswith("mre edit: ") and error.count("\n") == 1


def test_a_file_in_the_way_is_named_in_one_line(tmp_path, capsys):
    (tmp_path / "notes").write_text("of the user's")
    assert cli.main(["demo", "--quick", "--out", str(tmp_path / "notes" / "demo")]) == 70
    assert capsys.readouterr().err == f"mre demo: {tmp_path}/notes/demo: Not a directory\n"


def test_a_name_that_cannot_be_shown_ends_no_command(monkeypatch):
    """A file called in Latin-1 was written, and then its name ended the command."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(cli, "_parse", lambda argv: argparse.Namespace(_run=_say, command="x"))
    assert cli.main([]) == 0
    out.flush()
    assert out.buffer.getvalue() == b"caf\\udce9 \\xe9\n"


def _say(args):
    print("caf\udce9 \xe9")
    return 0


def test_no_bar_is_drawn_into_a_log_file():
    """By default it is, a line for every step where nobody looks at a terminal."""
    careless = []
    for path in Path(cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "tqdm":
                given = [keyword for keyword in node.keywords if keyword.arg == "disable"]
                # Where it is computed, None is among what it may be.
                if not given or ast.unparse(given[0].value) not in ("None", "disable"):
                    careless.append(f"{path.name}:{node.lineno}")
    assert not careless
