"""A judge as a caller sets it, from Python and from a command's options."""

import argparse

import pytest

from mre_jax.commands.options import add_options, read_options
from mre_jax.errors import ConfigError
from mre_jax.judges.spec import JudgeSpec
from tests.judges.conftest import KEY
from tests.judges.server import MODEL


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_options(parser, JudgeSpec)
    return read_options(JudgeSpec, parser.parse_args(words))


def test_the_options_are_the_spec():
    words = "--judge openai:m --base-url http://h/v1 --judge-option seed=3 --judge-option form=text"
    more = "--concurrency 2 --rpm 10 --tpm 99 --again invalid --again refused --max-usd 5"
    assert parsed(*words.split(), *more.split(), "--price", "1,2") == JudgeSpec(
        "openai:m",
        base_url="http://h/v1",
        options={"seed": "3", "form": "text"},
        concurrency=2,
        rpm=10,
        tpm=99,
        again=("invalid", "refused"),
        max_usd=5,
        price=(1, 2),
    )
    assert parsed() == JudgeSpec()


@pytest.mark.parametrize(
    "options", [{"seed": 3, "temperature": None}, {"seed": "3", "temperature": "null"}]
)
@pytest.mark.parametrize("kind", ["openai", "openai-batch"])
def test_options_are_values_or_their_spelling(kind, options):
    judge = JudgeSpec(f"{kind}:{MODEL}", options=options).make(offline=True)
    assert (judge.settings["seed"], judge.settings["temperature"]) == (3, None)


def test_defaults_hold_for_a_model_where_nothing_is_set():
    defaults = {"form": "text", "temperature": None, "max_tokens": 1400}
    spec = JudgeSpec(f"openai:{MODEL}", options={"max_tokens": 7})
    settings = spec.make(defaults, offline=True).settings
    assert [settings[name] for name in defaults] == ["text", None, 7]
    assert JudgeSpec("toy").make(defaults).name == "toy"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (JudgeSpec(), "no --judge"),
        (JudgeSpec("gpt"), "judge 'gpt': want one of openai"),
        (JudgeSpec("toy", price=(1, 2)), "takes no --base-url"),
        (JudgeSpec("toy", options={"x": 1}), "no option 'x'; it has"),
        (JudgeSpec("openai:m", options={"x": 1}), "no option 'x'; it has api, .*, usd"),
        (JudgeSpec("openai-batch:m", options={"pace": 1}), "no option 'pace'; it has active, "),
        (JudgeSpec("openai:m", price=(1, 2, 3)), "--price '1,2,3': want two numbers"),
        (JudgeSpec("openai-batch:m", max_usd=1), "no price is known for m; give --price"),
        (JudgeSpec("openai:m", rpm=-1), "requests per minute is -1"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch, spec, message):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ConfigError, match=message):
        spec.make()


def test_a_negative_ceiling_is_refused():
    with pytest.raises(ConfigError, match="max-usd -1"):
        JudgeSpec("toy", max_usd=-1).budget()
