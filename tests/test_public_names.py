"""What `from mre_jax import` gives: lazily, all of it listed, each with an example that runs."""

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mre_jax

PACKAGE = Path(mre_jax.__file__).parent


def test_importing_the_package_is_quick():
    code = (
        "import sys, time; start = time.process_time(); import mre_jax; "
        "print(time.process_time() - start, 'jax' in sys.modules, 'numpy' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    outputs = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    assert min(float(seconds) for seconds, *_ in outputs) < 0.05
    assert outputs[0][1:] == ["False", "False"]


@pytest.mark.parametrize("name", mre_jax.__all__)
def test_every_name_is_there(name):
    assert getattr(mre_jax, name).__name__ == name
    assert name in dir(mre_jax)


def test_another_name_is_an_error():
    with pytest.raises(AttributeError, match="'mre_jax' has no attribute 'edit'"):
        _ = mre_jax.edit
    assert not hasattr(mre_jax, "edit")


def test_no_name_is_that_of_a_module():
    """The module, once imported, would stand in its place."""
    assert not {path.stem for path in PACKAGE.iterdir()} & set(mre_jax.__all__)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(mre_jax.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == mre_jax._PLACES


def test_every_name_stands_in_an_example():
    """`test_doctests.py` runs them."""
    parser, names = doctest.DocTestParser(), set()
    texts = [path.read_text() for path in PACKAGE.rglob("*.py")]
    for text in (text for text in texts if ">>> " in text):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for example in parser.get_examples(ast.get_docstring(node) or ""):
                    names |= set(re.findall(r"\w+", example.source))
    assert set(mre_jax.__all__) <= names
