"""The examples of a run: opened, checked, and fitted to the encoders that read them."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt32

from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.batches.batch import Batch
from mre_jax.data.batches.captions import CaptionFile, CaptionLoader
from mre_jax.data.batches.loader import Loader, Reading, require_data_extra
from mre_jax.data.batches.order import positions
from mre_jax.data.batches.pairs import pair_up
from mre_jax.data.cache.description import EncoderHashes, check_cache
from mre_jax.data.records.record_source import RecordSource
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.reward.text import reward_parts
from mre_jax.smartedit.prompt import Prompts, PromptWriter
from mre_jax.training.config import ALIGNING, TrainConfig
from mre_jax.training.frozen import RequiredNetworks
from mre_jax.training.held_out import open_held_out
from mre_jax.training.start import Start
from mre_jax.training.truncation import Truncation


@dataclasses.dataclass(frozen=True)
class RunData:
    """The loaders of a run.

    Attributes:
        config: configuration of the run.
        training: loader of the examples that are trained on.
        held_out: loader of those that are not; None where no loss on them is asked for.
        truncation: tokenizer of the training examples; None before `fitted`.
    """

    config: TrainConfig
    training: Loader | CaptionLoader
    held_out: Loader | None
    truncation: Truncation | None = None

    @property
    def hashes(self) -> tuple[str, ...]:
        """What identifies the content of each set that is trained on."""
        return tuple(source.hash for source in self.training.sources)

    @property
    def required(self) -> RequiredNetworks:
        """The frozen networks that these examples go through."""
        if isinstance(self.training, CaptionLoader) or self.config.loss.objective in ALIGNING:
            return RequiredNetworks(vae=False)
        loaders = [loader for loader in (self.training, self.held_out) if loader is not None]
        caches = [loader.reads_cache for loader in loaders]
        # The language model reads instructions in its stead.
        reads_texts = self.config.loss.objective == "denoising" or self.config.model.takes_reward
        return RequiredNetworks(
            vae=None in caches,
            text_encoder=reads_texts and any(c is None or c.text is None for c in caches),
            edits=bool(self.config.validation.every),
        )

    def fitted(self, start: Start) -> "RunData":
        """The same with a tokenizer, if pictures and caches are such as the encoders take.

        Raises:
            ConfigError: if they are not.
        """
        truncation = self.tokenizer(start)
        return dataclasses.replace(
            self,
            training=self._fitted(self.training, start, truncation),
            held_out=self.held_out and self._fitted(self.held_out, start, self.tokenizer(start)),
            truncation=truncation,
        )

    def tokenizer(self, start: Start) -> Truncation:
        """A tokenizer that counts what it truncates, from 0."""
        return Truncation(start.tokenizer, perspectives(self.config), self.config.data.reward_cut)

    def smallest_batch(self, start: Start) -> Batch:
        """The first batch if it were as small as can be, for its shapes; its texts do not count."""
        loader = self.training
        size = loader.hosts * self.config.loss.together
        small: Any = dataclasses.replace(loader, batch_size=size)
        batch: Batch = self._fitted(small, start, self.tokenizer(start)).batch(0)
        return batch

    def report_truncation(self) -> None:
        """Warns once if texts of the training examples were too long."""
        if self.truncation is not None:
            self.truncation.report()

    def names(self, step: int, rows: Sequence[int]) -> list[str]:
        """The examples in some rows of the batch of a step, counted from 1, for a person."""
        where = positions(step - 1, self.training.batch_size)[list(rows)]
        found = self.training.find(where)
        return [f"{source[record].id} of {source.path}" for source, record in found]

    def __str__(self) -> str:
        """How many examples there are, and with a reward, if the run asks for rewards."""
        if isinstance(self.training, CaptionLoader):
            return f"{sum(map(len, self.training.sources))} captions"
        sources, pairs = self.training.sources, self.training.pairs
        text = f"{sum(map(len, sources))} examples"
        if pairs is not None:
            unlike, alike = sum(map(len, pairs)), sum(one.alike for one in pairs)
            return f"{text} in {unlike} pairs; {alike} pairs are alike in score and left out"
        if not self.config.model.takes_reward and self.config.loss.score_weighting == "none":
            return text
        rewarded = sum(source.rewarded_count for source in sources)
        return f"{text}, {rewarded} of them with a reward"

    def _hashes(self, start: Start) -> EncoderHashes:
        """Of the encoders; of a SmartEdit without templates of its own, with the first cache's."""
        cache = None if isinstance(self.training, CaptionLoader) else self.training.reads_cache
        if start.hashes.prompts is not None or cache is None or cache.smartedit is None:
            return start.hashes
        return start.hashes._replace(prompts=cache.smartedit.prompts)

    def _fitted(self, loader: Loader | CaptionLoader, start: Start, truncation: Truncation) -> Any:
        """The loader, of its own class, with what reads its texts."""
        if isinstance(loader, CaptionLoader):
            assert start.prompts is not None  # noqa: S101  the objective has asked for it
            write = functools.partial(_caption_prompts, start.prompts, truncation)
            return dataclasses.replace(loader, tokenize=truncation, write=write)
        data = self.config.data
        if data.resolution % start.downscale:
            raise ConfigError(
                f"data.resolution={data.resolution} must be a multiple of {start.downscale}, "
                "the pixels that the VAE makes one latent of"
            )
        if loader.reads_cache is not None:
            check_cache(
                loader.sources,
                self._hashes(start),
                # An objective that writes prompts asks the networks themselves.
                instructions=start.prompts is None,
                none_for_top=data.none_for_top,
                perspectives=perspectives(self.config),
                reward_cut=data.reward_cut,
            )
        fitted = dataclasses.replace(
            loader, tokenize=truncation, tokenize_rewards=truncation.rewards
        )
        if start.prompts is None:
            return fitted
        by_example = data.template_by == "example"
        prompts = functools.partial(_edit_prompts, start.prompts, truncation, by_example)
        return dataclasses.replace(
            fitted,
            tokenize=truncation if self.config.loss.objective in ALIGNING else None,
            write_prompts=prompts,
            clip_side=start.clip_side,
        )


def open_data(config: TrainConfig) -> RunData:
    """The sets of a run, as yet without a tokenizer.

    Raises:
        ConfigError, DataError: for a set that is missing, damaged, or lacks what the run needs.
    """
    data = config.data
    require_data_extra()
    if config.loss.objective == "captions":
        return _open_captions(config)
    sources = [RecordSource(path, requests=data.requests) for path in data.paths]
    if data.min_score:
        sources = [source.with_min_score(data.min_score) for source in sources]
    _check_rewards(config, sources)
    preference = config.loss.preference
    loader = Loader(
        sources,
        batch_size=data.batch_size,
        seed=config.seed,
        weights=data.weights,
        augmentation=Augmentation(
            data.resolution,
            resize_to=data.resize,
            filter=data.filter,
            flip=data.flip,
            fit=data.fit,
        ),
        dropout=config.loss.dropout,
        host=jax.process_index(),
        hosts=jax.process_count(),
        parts_of=functools.partial(
            reward_parts, none_for_top=data.none_for_top, perspectives=perspectives(config)
        ),
        reading=Reading(data.threads, data.workers, data.ahead),
        cache=data.cache,
        pairs=[pair_up(source, preference.margin) for source in sources] if preference else None,
    )
    held_out = open_held_out(config, loader) if config.validation.loss_every else None
    return RunData(config, loader, held_out)


def _open_captions(config: TrainConfig) -> RunData:
    data = config.data
    loader = CaptionLoader(
        [CaptionFile(path) for path in data.paths],
        batch_size=data.batch_size,
        seed=config.seed,
        weights=data.weights,
        host=jax.process_index(),
        hosts=jax.process_count(),
        reading=Reading(data.threads, data.workers, data.ahead),
    )
    return RunData(config, loader, None)


def _edit_prompts(
    writer: PromptWriter,
    truncation: Truncation,
    by_example: bool,
    instructions: Sequence[str],
    keys: UInt32[np.ndarray, "b 2"],
) -> Prompts:
    """The prompts of edits, with templates by the example's key or by the instruction alone."""
    chosen = _names(keys) if by_example else instructions
    return truncation.counted(writer.edits(instructions, chosen, [0] * len(instructions)))


def _caption_prompts(
    writer: PromptWriter,
    truncation: Truncation,
    captions: Sequence[str],
    keys: UInt32[np.ndarray, "b 2"],
) -> tuple[Prompts, list[str]]:
    """The prompts of captions, with templates by the example's key, and what is read of each."""
    prompts, read = writer.captions(captions, _names(keys), [0] * len(captions))
    return truncation.counted(prompts), read


def _names(keys: UInt32[np.ndarray, "b 2"]) -> list[str]:
    return [f"{first} {second}" for first, second in keys.tolist()]


def perspectives(config: TrainConfig) -> tuple[str, ...]:
    """Those whose texts are read."""
    reward = config.model.reward
    return PERSPECTIVES if reward is None else reward.perspectives


def _check_rewards(config: TrainConfig, sources: Sequence[RecordSource]) -> None:
    asking = {
        "model.reward=null": config.model.takes_reward,
        "loss.score_weighting=none": config.loss.score_weighting != "none",
        "loss.preference=null": config.loss.preference is not None,
    }
    remedies = [remedy for remedy, asks in asking.items() if asks]
    if remedies and not any(source.rewarded_count for source in sources):
        paths = ", ".join(str(source.path) for source in sources)
        raise DataError(
            f"{paths}: no rewards in it, and {remedies[0].partition('=')[0]} asks for them; "
            f"prepare it with --rewards, or set {remedies[0]}"
        )
