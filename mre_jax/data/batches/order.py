"""Which record stands at which position of training, and what chance it meets there.

A run is a sequence of positions: step s of batch size b holds s*b .. s*b + b-1. Everything here is
a pure function of the seed and the position, so that hosts, workers and restarts need no state.
Numbers come from the raw words of Philox, which NumPy keeps the same for ever.
"""

import dataclasses
import enum
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt32, UInt64

from mre_jax.errors import ConfigError

CYCLE = 1000
"""Positions after which a mixture repeats its pattern of sets; weights count in 1/CYCLE."""


class Stream(enum.IntEnum):
    """The independent uses of the seed. The values must never change."""

    ORDER = 0
    AUGMENT = 1
    DROPOUT = 2
    NOISE = 3
    MEMBER = 4
    INSTRUCTION = 5


def positions(step: int, batch_size: int, host: int = 0, hosts: int = 1) -> Int64[np.ndarray, " b"]:
    """The positions of one host's part of a global batch: a contiguous slice of it.

    Args:
        step: number of the step, from 0.
        batch_size: examples of all hosts together.
        host: this host, from 0.
        hosts: a divisor of the batch size.

    Raises:
        ConfigError: if a number is out of range.
    """
    if batch_size < 1 or hosts < 1 or batch_size % hosts:
        raise ConfigError(f"batch_size={batch_size} must be a multiple of the {hosts} hosts")
    if not 0 <= host < hosts or step < 0:
        raise ConfigError(f"host={host} of {hosts}, step={step}: want 0 <= host < hosts, step >= 0")
    part = batch_size // hosts
    start = step * batch_size + host * part
    return np.arange(start, start + part)


@dataclasses.dataclass(frozen=True)
class Order:
    """The map from positions to the records of one set or of a mixture.

    Each set is gone through epoch by epoch, every record once in each, in an order of its own per
    epoch. In a mixture the sets take turns as evenly as their weights allow. Where records form
    groups, a group stands for a record, and `member` draws one of it.

    Attributes:
        sizes: records of each set.
        seed: 0 .. 2**64 - 1.
        weights: share of the positions for each set, in any unit; None is by size, so that their
            epochs go on at about the same pace.

    Raises:
        ConfigError: if a set is empty, or a weight is too small to be met.
    """

    sizes: tuple[int, ...]
    seed: int
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ConfigError(f"sets of {list(self.sizes)} records: want one or more in each")
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed={self.seed} must be in 0 .. 2**64 - 1")
        shares = self.sizes if self.weights is None else self.weights
        if len(shares) != len(self.sizes) or not all(0 < w < float("inf") for w in shares):
            raise ConfigError(
                f"data.weights={list(shares)} for {len(self.sizes)} sets: want one above 0 for each"
            )
        if min(_counts(tuple(shares))) < 1:
            raise ConfigError(
                f"data.weights={list(shares)}: the smallest is under 1/{CYCLE} of them all; leave "
                "that set out or give it more"
            )

    def locate(
        self, where: Int64[np.ndarray, " b"]
    ) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
        """The set, and the record in it, that stands at each position."""
        sets, epochs, places = self._turns(where)
        records = np.empty_like(where)
        for number, epoch in {*zip(sets.tolist(), epochs.tolist(), strict=True)}:
            here = (sets == number) & (epochs == epoch)
            order = permutation(self.seed, epoch, self.sizes[number], number)
            records[here] = order[places[here]]
        return sets, records

    def epochs(self, where: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """The epoch, from 0, that the set at each position is in."""
        return self._turns(where)[1]

    def _turns(self, where: Int64[np.ndarray, " b"]) -> tuple[Int64[np.ndarray, " b"], ...]:
        """The set at each position, its epoch, and the place in that."""
        pattern, ranks, counts = _pattern(tuple(self.weights or self.sizes))
        cycle, slot = np.divmod(where, len(pattern))
        sets = pattern[slot]
        turn = cycle * counts[sets] + ranks[slot]
        return sets, *np.divmod(turn, np.array(self.sizes)[sets])


def member(seed: int, members: range, epoch: int, group: int, number: int = 0) -> int:
    """The one of a group's members that an epoch of set `number` reads."""
    return members[_draw_one(seed, Stream.MEMBER, len(members), group, epoch, number)]


def instruction(seed: int, texts: Sequence[str], epoch: int, record: int, number: int = 0) -> str:
    """The one of a record's instructions that an epoch of set `number` reads."""
    return texts[_draw_one(seed, Stream.INSTRUCTION, len(texts), record, epoch, number)]


def _draw_one(seed: int, stream: Stream, count: int, *where: int) -> int:
    if count == 1:
        return 0
    bits = np.random.Philox(key=_key(seed, stream), counter=_counter(*where))
    return int(_uniform(bits.random_raw(1))[0] * count)


@dataclasses.dataclass(frozen=True)
class Draws:
    """What chance decides at each position.

    Attributes:
        flip: in [0, 1).
        top: place of the crop in its room, in [0, 1).
        left: place of the crop in its room, in [0, 1).
        dropout: in [0, 1).
        key_data: a threefry key for `jax.random.wrap_key_data`, for the noise of the example.
    """

    flip: Float64[np.ndarray, " b"]
    top: Float64[np.ndarray, " b"]
    left: Float64[np.ndarray, " b"]
    dropout: Float64[np.ndarray, " b"]
    key_data: UInt32[np.ndarray, "b 2"]

    def repeated(self, count: int) -> "Draws":
        """The same chance for `count` neighbours each."""
        arrays = {name: np.repeat(value, count, axis=0) for name, value in vars(self).items()}
        return Draws(**arrays)


def draw(seed: int, where: Int64[np.ndarray, " b"]) -> Draws:
    """The chance at contiguous positions."""
    flip, top, left, _ = _uniform(_words(seed, Stream.AUGMENT, where)).T
    return Draws(
        flip=flip,
        top=top,
        left=left,
        dropout=_uniform(_words(seed, Stream.DROPOUT, where))[:, 0],
        key_data=_words(seed, Stream.NOISE, where)[:, :1].copy().view(np.uint32),
    )


def drop_conditions(
    dropout: Float64[np.ndarray, " b"], rate: float
) -> tuple[Bool[np.ndarray, " b"], Bool[np.ndarray, " b"]]:
    """Which examples lose their text, and which their original picture.

    As InstructPix2Pix: `rate` of them the text alone, as many the picture alone, as many both.

    Args:
        dropout: uniform numbers, as in `Draws`.
        rate: 0 to 1/3.

    Raises:
        ConfigError: if the rate is out of range.
    """
    if not 0 <= rate <= 1 / 3:
        raise ConfigError(f"conditioning dropout {rate} must be in 0 .. 1/3: it is applied thrice")
    return dropout < 2 * rate, (dropout >= rate) & (dropout < 3 * rate)


@functools.lru_cache(maxsize=16)
def permutation(seed: int, epoch: int, size: int, number: int = 0) -> Int64[np.ndarray, " n"]:
    """The order of `size` records in one epoch of set `number`; read-only."""
    bits = np.random.Philox(key=_key(seed, Stream.ORDER), counter=_counter(0, epoch, number))
    order = np.argsort(bits.random_raw(size), kind="stable")
    order.flags.writeable = False
    return order


@functools.lru_cache(maxsize=16)
def _pattern(
    weights: tuple[float, ...],
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"], Int64[np.ndarray, " k"]]:
    """Per slot of a cycle its set and that set's turn in the cycle; per set its slots."""
    counts = np.array(_counts(weights))
    ranks = np.concatenate([np.arange(count) for count in counts])
    sets = np.repeat(np.arange(len(counts)), counts)
    slots = np.argsort((ranks + 0.5) / counts[sets], kind="stable")
    return sets[slots], ranks[slots], counts


def _counts(weights: Sequence[float]) -> list[int]:
    """Slots of each set in a cycle, by largest remainder."""
    if len(weights) == 1:
        return [1]
    exact = np.array(weights) / np.sum(weights) * CYCLE
    counts = np.floor(exact).astype(int)
    most = np.argsort(counts - exact, kind="stable")[: CYCLE - counts.sum()]
    counts[most] += 1
    return counts.tolist()


def _words(seed: int, stream: Stream, where: Int64[np.ndarray, " b"]) -> UInt64[np.ndarray, "b 4"]:
    """Four random words for each of the contiguous positions: Philox's block of that number."""
    bits = np.random.Philox(key=_key(seed, stream), counter=_counter(int(where[0])))
    return bits.random_raw(4 * len(where)).reshape(-1, 4)


def _key(seed: int, stream: Stream) -> UInt64[np.ndarray, " 2"]:
    return np.array([seed, stream], np.uint64)


def _counter(*words: int) -> UInt64[np.ndarray, " 4"]:
    return np.array([*words, *(0,) * (4 - len(words))], np.uint64)


def _uniform(words: UInt64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    return (words >> np.uint64(11)) * 2.0**-53
