import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.judges.packs.answer_parser import parse_answer
from mre_jax.judges.packs.pack import PACKS, load_pack
from tests.judges.questions import question

PAPER = ("following", "preserving", "quality")


@pytest.mark.parametrize("name", PACKS)
def test_every_pack_loads_and_asks_for_its_keys(name):
    pack = load_pack(name)
    assert pack.description
    for prompt in pack.prompts.values():
        assert all(f"'{key}'" in prompt.user for key in prompt.answer.keys)
        assert prompt.user.count("{instruction}") == ("original" in prompt.pictures) or (
            name == "paired-quality-ours"
        )


def test_the_papers_packs_have_its_perspectives_and_kinds_of_score():
    for name, integer in (("paper-annotation", True), ("paper-evaluation", False)):
        pack = load_pack(name)
        assert pack.perspectives == PAPER
        assert {prompt.answer.integer for prompt in pack.prompts.values()} == {integer}
        assert {(p.answer.low, p.answer.high) for p in pack.prompts.values()} == {(0, 5)}


@pytest.mark.parametrize("name", ["paper-annotation", "paper-evaluation", "paired-quality-ours"])
def test_the_example_in_each_of_the_papers_prompts_is_an_answer(name):
    for prompt in load_pack(name).prompts.values():
        example = prompt.user.rpartition("look like this: ")[2].removesuffix(".")
        assert parse_answer(example, prompt.answer).score in (4, 5)


def test_quality_is_asked_of_the_edited_picture_alone_as_in_the_papers_figure():
    paper, ours = load_pack("paper-evaluation"), load_pack("paired-quality-ours")
    assert paper.prompt("quality").pictures == ("edited",)
    assert "first image" not in paper.prompt("quality").user
    assert ours.prompt("quality").pictures == ("original", "edited")
    for name in ("following", "preserving"):
        assert paper.prompt(name).hash == ours.prompt(name).hash
    assert paper.prompt("quality").hash != ours.prompt("quality").hash


def test_a_pack_of_an_older_name_is_told_its_new_one():
    for old, new in (("viescore", "viescore-ours"), ("released-evaluation", "paper-evaluation")):
        with pytest.raises(ConfigError, match=f"{old}: it is called {new} now"):
            load_pack(old)


def test_a_prompt_s_hash_is_pinned():
    """Scores are compared by it: a prompt that changes is another one."""
    assert load_pack("paper-annotation").prompt("following").hash.startswith("4510392934")
    assert load_pack("paper-evaluation").prompt("quality").hash.startswith("11d154b6e0")
    assert load_pack("paired-quality-ours").prompt("quality").hash.startswith("2231150d04")


def test_an_instruction_is_put_in_as_it_is():
    asked = "make {instruction} \\1 {0} %s"
    message = load_pack("viescore-ours").prompt("sc").message(asked)
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


TYPED = """
[overall]
pictures = ["original", "edited"]
system = ""
user = "Judge {instruction}."
[overall.answer]
scores = ["score"]
integer = true
low = 1
high = 5
[overall.types.add]
user = "What was added by {instruction}?"
"""


def test_a_pack_by_type_of_instruction(tmp_path):
    path = tmp_path / "typed.toml"
    path.write_text(TYPED)
    pack = load_pack(str(path))
    assert pack.prompt("overall", "add").message("x") == "What was added by x?"
    assert pack.prompt("overall", "style").user == "Judge {instruction}."
    # The scores of all types go into one mean, and another prompt of any type is another pack.
    assert pack.hash("overall") not in (pack.prompt("overall").hash, None)
    path.write_text(TYPED.replace("was added", "came in"))
    assert load_pack(str(path)).hash("overall") != pack.hash("overall")
    path.write_text(TYPED.replace('user = "Judge {instruction}."\n', ""))
    pack = load_pack(str(path))
    assert pack.perspectives == ("overall",) and pack.prompt("overall", "add").user
    with pytest.raises(ConfigError, match="no prompt for instructions of type 'style'; it has add"):
        pack.prompt("overall", "style")
    path.write_text(TYPED.replace("[overall.types.add]\nuser", "[overall.types]\nuser"))
    with pytest.raises(DataError, match="overall: types: want a table a type"):
        load_pack(str(path))


def test_errors_name_what_is_wrong():
    with pytest.raises(ConfigError, match="'nope': want paper-annotation"):
        load_pack("nope")
    with pytest.raises(ConfigError, match="no perspective 'taste'"):
        question(perspective="taste")
