"""How the demo trains: the same for every system but for what it is about."""

from mre_jax.demo.editor import EditorSizes
from mre_jax.demo.systems import System
from mre_jax.training.config import (
    CheckpointConfig,
    DataConfig,
    LogConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)

BATCH_SIZE = 32


def train_config(
    system: System, editor: str, data: str, steps: int, *, sizes: EditorSizes, seed: int = 0
) -> TrainConfig:
    """The configuration of one system's training.

    Args:
        editor: the pretrained one, whose prediction type stays.
        data: prepared triplets with cached latents and texts.
        steps: of the optimizer.
        sizes: of the editor.
        seed: of the training.
    """
    return TrainConfig(
        name=system.name,
        steps=steps,
        seed=seed,
        model=ModelConfig(
            init_from=editor,
            in_channels=sizes.in_channels,
            reward=system.reward,
            compute_dtype="float32",
            ema_decay=0.99,
        ),
        data=DataConfig(
            paths=(data,),
            batch_size=BATCH_SIZE,
            resolution=sizes.pixels,
            min_score=system.min_score,
            cache="required",
        ),
        loss=system.loss,
        # The reward's parts start from zeros and have few steps; at twelve times the rate of the
        # rest, its attention learns nothing.
        optimizer=OptimizerConfig(
            learning_rate=system.learning_rate,
            reward_rate_scale=4.0,
            schedule="cosine",
            warmup_steps=min(50, steps // 4),
        ),
        mesh=MeshConfig(shard_optimizer=False),
        checkpoint=CheckpointConfig(every=max(steps // 2, 1), keep=1),
        log=LogConfig(every=25, tensorboard=False),
    )
