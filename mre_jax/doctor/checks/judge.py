"""A judge that costs money: its key, its model and its server, asked without a question."""

import datetime
from collections.abc import Iterator

from mre_jax.doctor.finding import RETRY, Finding, failure, ok, refused, warning
from mre_jax.doctor.machine import Machine
from mre_jax.errors import MreError
from mre_jax.judges.openai.client import KEY, guard, redact, server_address
from mre_jax.judges.openai.judge import ModelJudge
from mre_jax.judges.openai.model_facts import ModelFacts
from mre_jax.judges.spec import JudgeSpec

CHECK = "judge"


def check_judge(spec: JudgeSpec, machine: Machine) -> Iterator[Finding]:
    """Whether it could be asked. The server's list of models is read, which costs nothing.

    Example:
        >>> [finding.says for finding in check_judge(JudgeSpec("toy"), Machine())]
        ['toy asks no server']
    """
    try:
        judge = spec.make(offline=True)
    except MreError as error:
        yield refused(CHECK, error)
        return
    if not isinstance(judge, ModelJudge):
        yield ok(CHECK, f"{judge.name} asks no server")
        return
    yield from _retirement(judge.model.facts, machine)
    key_name = str(spec.options.get("key_name") or KEY)
    key = machine.environment.get(key_name, "").strip()
    base_url = spec.base_url or machine.environment.get("OPENAI_BASE_URL")
    if not key and base_url is None:
        says = f"{judge.name}: no key in {key_name}"
        yield failure(CHECK, says, f"set the environment variable {key_name}")
        return
    yield from _server(judge.model.request.model, server_address(base_url), key, machine)


def _retirement(facts: ModelFacts, machine: Machine) -> Iterator[Finding]:
    today = datetime.datetime.fromtimestamp(machine.now(), datetime.UTC).date()
    told = facts.warning(today)
    if told is None:
        return
    if facts.retires is not None and facts.retires <= today:
        yield failure(CHECK, told.partition("; ")[0], "take another model")
    else:
        yield warning(CHECK, told, "be done before, or take another model")


def _server(model: str, address: str, key: str, machine: Machine) -> Iterator[Finding]:
    guard(key)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        status = machine.get(f"{address}/models/{model}", headers).status
    except OSError as error:
        says = f"{address} does not answer ({redact(str(error))})"
        yield failure(CHECK, says, "correct --base-url, or start the server", RETRY)
        return
    if status in (401, 403):
        yield failure(CHECK, f"{address} refuses the key ({status})", "take another key")
    elif status == 404:
        remedy = "correct the model's name; a server without a list of models answers so too"
        yield warning(CHECK, f"{address} knows no model {model}", remedy)
    elif status >= 500:
        yield failure(CHECK, f"{address} answers {status}", "try again later", RETRY)
    else:
        yield ok(CHECK, f"{address} answers, and knows {model}")
