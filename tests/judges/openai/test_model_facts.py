import datetime
import json
import tomllib
from importlib import resources

import pytest

from mre_jax.errors import ConfigError
from mre_jax.judges.estimate import estimate
from mre_jax.judges.judge import make_judge
from mre_jax.judges.openai.model_facts import model_facts
from mre_jax.judges.openai.request import Message
from tests.judges.questions import question
from tests.judges.server import MODEL


def test_a_name_stands_for_its_snapshots_and_the_longest_fits():
    assert model_facts("gpt-4o-2024-08-06").usd == (2.5, 10.0)
    assert model_facts("gpt-4o-2024-05-13").usd == (5.0, 15.0)
    assert model_facts("gpt-4o-mini-2024-07-18").usd == (0.15, 0.6)
    assert model_facts("gpt-4o-something-else").usd is None
    assert model_facts("Qwen/Qwen2.5-VL-7B-Instruct").usd is None


def test_a_price_of_one_s_own_counts():
    facts = model_facts("gpt-4o", (1.0, 2.0))
    assert facts.cost(1_000_000, 500_000) == 2.0
    assert facts.priced == "yours"


def test_every_price_tells_its_day():
    table = tomllib.loads(
        resources.files("mre_jax.judges.openai").joinpath("models.toml").read_text()
    )
    today = datetime.datetime.now(datetime.UTC).date()
    assert table["retirements_of"] <= today
    for name, entry in table["models"].items():
        assert ("usd" in entry) == ("priced" in entry), name
        assert model_facts(name).priced == str(entry.get("priced", "")), name
        assert entry.get("priced", today) <= today, name
        assert not set(entry) - {"usd", "priced", "reasoning", "tiles", "patches", "retires"}, name


def test_retirement_is_told():
    facts = model_facts("gpt-4o-2024-08-06")
    assert "is announced to shut down on 2027-01-14 (as of 2026-10-27)" in facts.warning(
        datetime.date(2026, 1, 1)
    )
    assert "take another model" in facts.warning(datetime.date(2027, 2, 1))
    assert model_facts("mine").warning(datetime.date(2027, 2, 1)) is None


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gpt-4o", (512, 512), 85 + 170),
        ("gpt-4o", (1024, 1024), 85 + 170 * 4),
        ("gpt-4o", (4096, 8192), 85 + 170 * 6),
        ("gpt-4.1-mini", (1024, 1024), 1659),
        ("mine", (512, 512), 256),
    ],
)
def test_tokens_of_pictures(model, size, tokens):
    """The first four are the examples and the rule of OpenAI's guide."""
    assert model_facts(model).picture_tokens(*size) == tokens


def test_an_estimate_counts_what_is_left_and_asks_nobody():
    judge = make_judge(f"openai:{MODEL}", offline=True)
    questions = [question(n) for n in range(10)]
    found = estimate(judge, questions, {judge.key(questions[0])})
    assert (found.requests, found.answered, found.batches) == (9, 1, 1)
    sent = sum(len(json.dumps(judge.model.request.body(Message.of(q)))) for q in questions[1:])
    assert found.bytes == pytest.approx(sent, rel=0.3) and "kB a request" in str(found)
    assert found.usd == pytest.approx(judge.model.facts.cost(found.prompt_tokens, 9 * 40))
    assert found.batch_usd == found.usd / 2
    assert found.most_usd == pytest.approx(sum(map(judge.worst_usd, questions[1:])))
    halved = estimate(make_judge(f"openai-batch:{MODEL}", offline=True), questions[1:])
    assert halved.usd == pytest.approx(found.usd)
    assert halved.most_usd == pytest.approx(found.most_usd / 6)  # half of one attempt of three
    assert "shut down" in str(found)


@pytest.mark.parametrize(
    ("name", "reasoning", "thinks"),
    [
        ("gpt-7", True, True),
        ("gpt-6-nova-2027-01-01", True, True),
        ("openai/o5-mini", True, True),
        ("Qwen/QVQ-72B-Preview", False, True),
        ("deepseek-ai/DeepSeek-R1", False, True),
        ("glm-4.1v-9b-thinking", False, True),
        ("gpt-4o-something-else", False, False),
        ("Qwen/Qwen2.5-VL-7B-Instruct", False, False),
        ("pro1-vl", False, False),
    ],
)
def test_models_of_no_table_are_known_by_their_family(name, reasoning, thinks):
    """One that thinks needs room for it; a newer one of OpenAI's takes no temperature either."""
    facts = model_facts(name)
    assert (facts.reasoning, facts.thinks) == (reasoning, thinks)
    judge = make_judge(f"openai:{name}", offline=True)
    assert judge.model.request.max_tokens == (4000 if thinks else 300)
    assert judge.model.request.temperature == (None if reasoning else 0.0)


def test_pictures_of_low_detail_count_as_few_tokens():
    assert model_facts("gpt-4o").picture_tokens(1024, 1024, "low") == 85
    assert model_facts("gpt-4.1-mini").picture_tokens(1024, 1024, "low") == 1659  # not known
    low = make_judge(f"openai:{MODEL}", offline=True, detail="low")
    high = make_judge(f"openai:{MODEL}", offline=True)
    assert (
        high.model.tokens(Message.of(question())) - low.model.tokens(Message.of(question()))
        == 2 * 170
    )
    assert low.worst_usd(question()) < high.worst_usd(question())
    assert estimate(low, [question()]).usd < estimate(high, [question()]).usd


def test_what_an_estimate_assumes_is_said():
    thinking = estimate(make_judge("openai:gpt-5-mini", offline=True), [question()])
    assert thinking.completion_tokens == 1040
    assert "assumed: 1040 tokens an answer, thinking included" in str(thinking)
    plain = estimate(make_judge("openai:mine", offline=True, detail="low"), [question()])
    assert "assumed: 40 tokens an answer" in str(plain)
    assert "low detail counts as one of full detail" in str(plain)
    assert "40 tokens an answer, pictures at detail low" in str(plain)


def test_nothing_to_estimate():
    with pytest.raises(ConfigError, match="nothing to estimate"):
        estimate(make_judge("toy"), [])
    unknown = estimate(make_judge("openai:mine", offline=True), [question()])
    assert "no price is known for mine" in str(unknown)


def test_the_worst_is_worse_than_any_answer():
    """A token is at least a byte, so that the reservation covers every tokenizer."""
    judge = make_judge(f"openai:{MODEL}", offline=True)
    assert judge.worst_usd(question()) > judge.model.facts.cost(
        3 * judge.model.tokens(Message.of(question())), 900
    )
