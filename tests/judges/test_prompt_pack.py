import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.judges.answer_parser import parse_answer
from mre_jax.judges.prompt_pack import PACKS, load_pack
from tests.judges.questions import question

PAPER = ("following", "preserving", "quality")


@pytest.mark.parametrize("name", PACKS)
def test_every_pack_loads_and_asks_for_its_keys(name):
    pack = load_pack(name)
    assert pack.description
    for prompt in pack.prompts.values():
        assert all(f"'{key}'" in prompt.user for key in prompt.answer.keys)
        assert prompt.user.count("{instruction}") == ("original" in prompt.pictures) or (
            name == "paper-evaluation"
        )


def test_the_papers_packs_have_its_perspectives_and_kinds_of_score():
    for name, integer in (("paper-annotation", True), ("paper-evaluation", False)):
        pack = load_pack(name)
        assert pack.perspectives == PAPER
        assert {prompt.answer.integer for prompt in pack.prompts.values()} == {integer}
        assert {(p.answer.low, p.answer.high) for p in pack.prompts.values()} == {(0, 5)}


@pytest.mark.parametrize("name", ["paper-annotation", "paper-evaluation", "released-evaluation"])
def test_the_example_in_each_of_the_papers_prompts_is_an_answer(name):
    for prompt in load_pack(name).prompts.values():
        example = prompt.user.rpartition("look like this: ")[2].removesuffix(".")
        assert parse_answer(example, prompt.answer).score in (4, 5)


def test_the_released_evaluation_judges_quality_by_the_edited_picture_alone():
    paper, released = load_pack("paper-evaluation"), load_pack("released-evaluation")
    assert released.prompt("quality").pictures == ("edited",)
    assert paper.prompt("quality").pictures == ("original", "edited")
    for name in ("following", "preserving"):
        assert paper.prompt(name).hash == released.prompt(name).hash
    assert paper.prompt("quality").hash != released.prompt("quality").hash


def test_a_prompt_s_hash_is_pinned():
    """Scores are compared by it: a prompt that changes is another one."""
    assert load_pack("paper-annotation").prompt("following").hash.startswith("4510392934")
    assert load_pack("paper-evaluation").prompt("quality").hash.startswith("2231150d04")


def test_an_instruction_is_put_in_as_it_is():
    asked = "make {instruction} \\1 {0} %s"
    message = load_pack("viescore").prompt("sc").message(asked)
    assert f"BEGIN INSTRUCTION\n{asked}\nEND INSTRUCTION" in message


def test_a_pack_of_one_s_own(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        '[taste]\npictures = ["edited"]\nsystem = ""\nuser = "Say."\n'
        '[taste.answer]\nscores = ["s"]\ninteger = true\nlow = 1\nhigh = 9\n'
    )
    assert load_pack(str(path)).perspectives == ("taste",)
    path.write_text(path.read_text().replace("high = 9", "high = 0"))
    with pytest.raises(DataError, match="taste: answer: low and high"):
        load_pack(str(path))


def test_errors_name_what_is_wrong():
    with pytest.raises(ConfigError, match="'nope': want paper-annotation"):
        load_pack("nope")
    with pytest.raises(ConfigError, match="no perspective 'taste'"):
        question(perspective="taste")
