"""What a judge costs that gives every example of a run a reward: money, before it is asked."""

import dataclasses
import io

from PIL import Image

from mre_jax.judges.estimate import Estimate, estimate
from mre_jax.judges.packs.pack import load_pack
from mre_jax.judges.question import Question
from mre_jax.judges.spec import JudgeSpec

PACK = "paper-annotation"
PIXELS = 512
INSTRUCTION = "Replace the old wooden bench beside the fountain with a red bicycle."
"""Of a common length."""


@dataclasses.dataclass(frozen=True)
class JudgePlan:
    """Annotating a set.

    Attributes:
        judge: name of the judge.
        requests: in all.
        usd, batch_usd: about, each by itself and by the Batch API; None without a price.
        most_usd: as it would be reserved.
        priced: day of the price.
        notes: what is assumed, and what is known of the model's retirement.
    """

    judge: str
    requests: int
    usd: float | None
    batch_usd: float | None
    most_usd: float | None
    priced: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        cost = "no price is known; give --price"
        if self.usd is not None:
            cost = (
                f"about {self.usd:,.2f} USD, in batches {self.batch_usd:,.2f}, at most "
                f"{self.most_usd:,.2f} (prices of {self.priced})"
            )
        return "\n".join([f"{self.judge}: {self.requests:,} requests, {cost}", *self.notes])


def plan_judging(judge: JudgeSpec, examples: int) -> JudgePlan:
    """Three questions an example, as `mre annotate` asks; `--dry-run` there looks at the pictures.

    Args:
        judge: a model behind a server; nothing is sent to it.

    Raises:
        ConfigError: for a judge that sends nothing, or is not known.

    Example:
        >>> found = plan_judging(JudgeSpec("openai:gpt-4o"), 1000)
        >>> found.requests, found.batch_usd == found.usd / 2
        (3000, True)
    """
    pack, picture = load_pack(PACK), _picture()
    questions = (
        Question("example", perspective, pack, INSTRUCTION, picture, picture)
        for perspective in pack.perspectives
    )
    one: Estimate = estimate(judge.make(pack.settings, offline=True), questions)

    def all_of(usd: float | None) -> float | None:
        return None if usd is None else usd * examples

    return JudgePlan(
        judge=one.judge,
        requests=one.requests * examples,
        usd=all_of(one.usd),
        batch_usd=all_of(one.batch_usd),
        most_usd=all_of(one.most_usd),
        priced=one.priced,
        notes=(*one.notes, f"assumed: pictures of {PIXELS}x{PIXELS}, {examples:,} examples"),
    )


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (PIXELS, PIXELS)).save(file, "PNG")
    return file.getvalue()
