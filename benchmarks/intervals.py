"""How often intervals cover the truth, by the number of photos.

    python benchmarks/intervals.py [TRIALS]

Each photo has seven edits. An edit's score is a whole number from 0 to 5 that half depends on the
photo, and a yes is a score of 4 or more; the truth is the mean of a million of them. "percentile"
is the plain bootstrap over photos, at any number of them. The standard error of a coverage of 95 %
is 0.5 points at 2,000 trials.
"""

import sys

import numpy as np

from mre_jax.evaluation.statistics.intervals import (
    Bootstrap,
    Grouped,
    mean_interval,
    percentiles,
    resampled_means,
    share_interval,
)

EDITS = 7
GROUPS = (3, 5, 8, 20, 80)


def draw(rng: np.random.Generator, photos: int, level: float) -> np.ndarray:
    """Scores [photos * EDITS]."""
    quality = level + np.repeat(rng.normal(size=photos), EDITS) + rng.normal(size=photos * EDITS)
    return np.clip(np.rint(quality), 0, 5)


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rng = np.random.default_rng(0)
    for name, level, other in (("middling", 2.5, 2.0), ("nearly all yes", 5.0, 4.5)):
        large, lower = draw(rng, 150_000, level), draw(rng, 150_000, other)
        truths = (large.mean(), large.mean() - lower.mean(), (large >= 4).mean())
        print(f"{name}: mean {truths[0]:.2f}, share of yes {truths[2]:.3f}")
        print("photos  percentile  mean  difference  share")
        for groups in GROUPS:
            hits = np.zeros(4)
            for seed in range(trials):
                bootstrap = Bootstrap(1000, seed)
                ids = [f"{n // EDITS}" for n in range(groups * EDITS)]
                scores, others = draw(rng, groups, level), draw(rng, groups, other)
                data, pairs = Grouped.of(scores, ids), Grouped.of(scores - others, ids)
                found = (
                    (percentiles(resampled_means(data, bootstrap), bootstrap), truths[0]),
                    (mean_interval(data, bootstrap, (0, 5)), truths[0]),
                    (mean_interval(pairs, bootstrap, (-5, 5)), truths[1]),
                    (share_interval(Grouped.of(scores >= 4, ids), bootstrap), truths[2]),
                )
                hits += [one is not None and one.low <= t <= one.high for one, t in found]
            row = "  ".join(f"{100 * share:9.1f}" for share in hits / trials)
            print(f"{groups:6d}  {row}")


if __name__ == "__main__":
    main()
