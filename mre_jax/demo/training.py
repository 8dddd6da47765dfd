"""How the demo trains: the same for every system but for what it is about."""

from pathlib import Path

from mre_jax.demo.systems import System
from mre_jax.toyworld.pretraining.recipe import Recipe
from mre_jax.training.config import (
    CheckpointConfig,
    DataConfig,
    LogConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)


def train_config(system: System, editor: Path, data: Path, steps: int) -> TrainConfig:
    """The configuration of one system's training.

    Args:
        editor: the pretrained one.
        data: prepared triplets with cached latents and texts.
        steps: of the optimizer.
    """
    return TrainConfig(
        name=system.name,
        steps=steps,
        model=ModelConfig(
            init_from=str(editor),
            in_channels=2 * Recipe().latent_channels,
            reward=system.reward,
            compute_dtype="float32",
            ema_decay=0.99,
        ),
        data=DataConfig(
            paths=(str(data),),
            batch_size=32,
            resolution=Recipe().size,
            min_score=system.min_score,
            cache="required",
        ),
        # In few steps the small errors of little noise drown what decides whether an edit is made.
        loss=LossConfig(min_snr_gamma=1.0),
        # The reward's parts start from zeros and have few steps; at twelve times the rate of the
        # rest, its attention learns nothing.
        optimizer=OptimizerConfig(
            learning_rate=7e-4,
            reward_rate_scale=4.0,
            schedule="cosine",
            warmup_steps=min(50, steps // 4),
        ),
        mesh=MeshConfig(shard_optimizer=False),
        checkpoint=CheckpointConfig(every=max(steps // 3, 1), keep=1),
        log=LogConfig(every=25, tensorboard=False),
    )
