"""The editors that the demo trains, and the rows of the paper's tables that they fill."""

import dataclasses

from mre_jax.evaluation.suites.challenging import TARGETS
from mre_jax.evaluation.tables.fill import Source
from mre_jax.reward.config import RewardConfig

BEST = "5,5,5"
PRETRAINED, BASELINE, REWARD, FILTERED = "pretrained", "baseline", "reward", "filtered"


@dataclasses.dataclass(frozen=True)
class System:
    """An editor that is trained from the pretrained one, on the same data for as many steps.

    Attributes:
        name: in results, and of its folders.
        reward: the condition; None trains without rewards.
        min_score: leaves out the triplets with a lower score.
    """

    name: str
    reward: RewardConfig | None = None
    min_score: float | None = None


def _reward(**switches: object) -> RewardConfig:
    return RewardConfig(**{"score_width": 64, "num_attention_heads": 4, **switches})  # type: ignore


MAIN = (System(BASELINE), System(REWARD, _reward()))
ABLATIONS = (
    System("score only", _reward(text=False)),
    System("text only", _reward(score=False)),
    System("attention only", _reward(addition=False)),
    System("addition only", _reward(attention=False)),
    System("following only", _reward(perspectives=("following",))),
    System("preserving only", _reward(perspectives=("preserving",))),
    System("quality only", _reward(perspectives=("quality",))),
    System(FILTERED, min_score=4),
)

_OURS = Source(REWARD, BEST)
TABLES: dict[int, dict[str, Source]] = {
    1: {
        "pretrained": Source(PRETRAINED, lead=("Toy InsPix2Pix", "30,000")),
        "baseline": Source(BASELINE, lead=("  without rewards", "+ the same")),
        "reward": Source(REWARD, BEST, lead=("  with rewards", "+ the same")),
    },
    4: {
        "none": Source(BASELINE),
        "score": Source("score only", BEST),
        "text": Source("text only", BEST),
        "score+text": _OURS,
    },
    5: {
        "none": Source(BASELINE),
        "attention": Source("attention only", BEST),
        "addition": Source("addition only", BEST),
        "attention+addition": _OURS,
    },
    6: {f"{n},{n},{n}": Source(REWARD, f"{n},{n},{n}") for n in (0, 3, 5)},
    8: {
        "Baseline 0.30M": Source(PRETRAINED, lead=("Pretrained", "30,000")),
        "Baseline 0.32M": Source(BASELINE, lead=("Baseline", "+ the same")),
        "Ours": Source(REWARD, BEST, lead=("Ours", "+ the same")),
        "Filtered": Source(FILTERED, lead=("Filtered", "+ scores of 4 and 5")),
    },
    9: {"Original": Source(TARGETS), "Ours": _OURS},
    10: {
        "following": Source("following only", BEST),
        "preserving": Source("preserving only", BEST),
        "quality": Source("quality only", BEST),
        "all": _OURS,
    },
}
"""By the paper's number and the row's label. Filtering is a row of ours."""
