"""The options of a command are its spec: same fields, same defaults, same words."""

import argparse
import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from mre_jax.commands.options import (
    add_options,
    field_docs,
    parse_numbers,
    read_options,
    write_options,
)
from mre_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Oven:
    """What bakes.

    Attributes:
        kind: of oven, gas or wood.
        heat: in degrees, 100 % of
            what it can.
    """

    kind: str = dataclasses.field(metadata={"flag": "--oven"})
    heat: float = 180.0


@dataclasses.dataclass(frozen=True)
class Bake:
    """A cake.

    Attributes:
        recipe: file of it.
        out: where the cake goes.
        fast, cooled: whether it is so.
        size: of the cake.
        layers: thickness of each.
        toppings: in order.
        extra: anything else by name.
        oven: the oven; None eats it raw.
        count: cakes.
        tiers: diameter of each; None is a cake without.

    Raises:
        ConfigError: never.
    """

    recipe: Path = dataclasses.field(metadata={"positional": True})
    out: str
    fast: bool = False
    cooled: bool = True
    size: Literal["small", "large"] = "small"
    layers: tuple[float, ...] | None = None
    toppings: tuple[str, ...] = ()
    extra: dict[str, str] = dataclasses.field(default_factory=dict)
    oven: Oven | None = None
    count: int | None = dataclasses.field(
        default=None, metadata={"parse": lambda text: len(text), "metavar": "IIII"}
    )
    tiers: tuple[float, ...] | None = (1.0,)


def bake(*words):
    parser = argparse.ArgumentParser()
    add_options(parser, Bake)
    return read_options(Bake, parser.parse_args([str(word) for word in words]))


def test_defaults_are_those_of_the_spec():
    assert bake("cake.txt", "--out", "x") == Bake(Path("cake.txt"), "x")


def test_every_kind_of_field_is_read():
    made = bake(
        *("cake.txt", "--out", "x", "--fast", "--no-cooled", "--size", "large"),
        *("--layers", "1,2.5", "--toppings", "a", "--toppings", "b", "--extra", "k=v=w"),
        *("--oven", "gas", "--heat", "200", "--count", "III"),
    )
    assert made == Bake(
        Path("cake.txt"), "x", True, False, "large", (1, 2.5), ("a", "b"), {"k": "v=w"},
        Oven("gas", 200.0), 3,
    )  # fmt: skip


@pytest.mark.parametrize(
    "made",
    [
        Bake(Path("cake.txt"), "x"),
        Bake(
            Path("a cake.txt"), "-x", True, False, "large", (1, 0.1 + 0.2), ("a", "b"),
            {"k": "v=w"}, Oven("gas", 1e-7),
        ),
        Bake(Path("cake.txt"), "x", fast=True, tiers=None),
    ],
)  # fmt: skip
def test_what_is_written_is_read_back(made):
    words = write_options(made)
    assert bake(*words) == made
    assert len(words) == 3 or "--fast" in words  # defaults are not written


def test_numbers_that_are_there_by_default_may_be_none():
    assert bake("cake.txt", "--out", "x", "--tiers", "none").tiers is None
    with pytest.raises(ConfigError, match="want numbers"):
        bake("cake.txt", "--out", "x", "--layers", "none")


def test_what_a_nested_spec_lacks_is_named():
    with pytest.raises(ConfigError, match="--oven is missing"):
        bake("cake.txt", "--out", "x", "--heat", "200")


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--layers", "1;2"], "--layers '1;2': want numbers"), (["--extra", "k"], "NAME=VALUE")],
)
def test_a_value_that_does_not_fit_names_its_option(words, message):
    with pytest.raises(ConfigError, match=message):
        bake("cake.txt", "--out", "x", *words)


def test_what_must_be_given_is_asked_for(capsys):
    with pytest.raises(SystemExit):
        bake("cake.txt")
    assert "--out" in capsys.readouterr().err


def test_help_is_the_docstring(capsys):
    with pytest.raises(SystemExit):
        bake("--help")
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        "in degrees, 100 % of what it can (180.0)",
        "where the cake goes",
        "IIII",
        "oven:",
    ):
        assert words in told


def test_fields_of_one_line_share_its_words():
    assert field_docs(Bake)["cooled"] == field_docs(Bake)["fast"] == "whether it is so."
    assert set(field_docs(Bake)) == {field.name for field in dataclasses.fields(Bake)}


def test_numbers_with_commas():
    assert parse_numbers("5,4.5,0", "--reward") == (5, 4.5, 0)
    with pytest.raises(ConfigError, match="--reward '5;5'"):
        parse_numbers("5;5", "--reward")


@dataclasses.dataclass(frozen=True)
class Serve:
    """A cake on the table.

    Attributes:
        cake: which.
        cream: whether there is any.
        candles: whether they burn; None asks the guests.
        plates: how many.
        oven: the oven.
    """

    cake: str = dataclasses.field(metadata={"positional": True, "help": "one of Sacher, Linzer"})
    cream: bool = dataclasses.field(default=False, metadata={"no": True})
    candles: bool | None = None
    plates: int = dataclasses.field(default=2, metadata={"group": "dishes"})
    oven: Oven = dataclasses.field(default=Oven("gas"))


def test_groups_negations_and_words_that_the_metadata_says(capsys):
    parser = argparse.ArgumentParser(prog="serve")
    add_options(parser, Serve)
    args = ["Linzer", "--no-cream", "--no-candles", "--oven", "gas"]
    assert read_options(Serve, parser.parse_args(args)) == Serve("Linzer", candles=False)
    assert read_options(Serve, parser.parse_args([*args[:1], *args[3:]])).candles is None
    shown = parser.format_help()
    assert "one of Sacher, Linzer" in shown
    assert shown.index("\ndishes:") < shown.index("--plates", shown.index("\ndishes:"))
    assert "--heat HEAT" in shown and "OVEN.HEAT" not in shown
