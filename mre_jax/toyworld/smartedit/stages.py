"""SmartEdit's stages at the toy world's scale: runs as `mre train` has them, one after the other.

Each starts from the model that the one before has left, and leaves one.
"""

import dataclasses
from pathlib import Path

from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.toyworld.smartedit.sets import CAPTIONS, FLAWED, IDEAL
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

_LOG_EVERY, _SAVE_EVERY, _WARMUP = 25, 500, 100


@dataclasses.dataclass(frozen=True)
class Stage:
    """One run.

    Attributes:
        name: of its folders and of its entry in the record.
        objective: of `loss.objective`.
        trained: of `model.trained`.
        data: of `sets`.
        steps: of the optimizer.
        rate: highest learning rate.
    """

    name: str
    objective: str
    trained: tuple[str, ...]
    data: str
    steps: int
    rate: float


def stages(recipe: SmartEditRecipe) -> tuple[Stage, ...]:
    """Stage 1 in two parts, stage 2a and stage 2b."""
    return (
        Stage(
            "stage1",
            "captions",
            ("qformer", "new_tokens"),
            CAPTIONS,
            recipe.caption_steps,
            recipe.alignment_rate,
        ),
        # The official run has no such part: see the recipe.
        Stage(
            "stage1_pictured",
            "instructions",
            ("llm", "qformer"),
            IDEAL,
            recipe.instruction_steps,
            recipe.alignment_rate,
        ),
        Stage(
            "stage2a",
            "replies_and_edits",
            ("unet", "qformer", "llm"),
            IDEAL,
            recipe.edit_steps,
            recipe.edit_rate,
        ),
        Stage(
            "stage2b",
            "replies_and_edits",
            ("unet", "qformer", "bim", "adapters", "new_tokens"),
            FLAWED,
            recipe.bim_steps,
            recipe.edit_rate,
        ),
    )


def stage_config(
    recipe: SmartEditRecipe,
    stage: Stage,
    model: Path,
    sets: Path,
    *,
    size: int,
    in_channels: int,
    templates: Path,
) -> TrainConfig:
    """The configuration of a stage.

    Args:
        model: that it starts from.
        sets: the folder of `write_sets`.
        size: pixels along a side.
        in_channels: of the UNet.
        templates: for all stages the same, stage 1 included.
    """
    steps = stage.steps
    return TrainConfig(
        name=stage.name,
        steps=steps,
        seed=recipe.seed,
        model=ModelConfig(
            init_from=str(model),
            trained=stage.trained,
            in_channels=in_channels,
            compute_dtype="float32",
            ema_decay=recipe.ema_decay,
        ),
        data=DataConfig(
            paths=(str(sets / stage.data),),
            batch_size=recipe.batch,
            resolution=size,
            flip=0.0,
            templates=str(templates),
            template_by="example",
            text_tokens=recipe.text_tokens,
        ),
        loss=LossConfig(objective=stage.objective),
        optimizer=OptimizerConfig(
            learning_rate=stage.rate,
            weight_decay=0.0,
            schedule="cosine",
            warmup_steps=min(_WARMUP, steps // 4),
        ),
        mesh=MeshConfig(shard_optimizer=False),
        checkpoint=CheckpointConfig(every=_SAVE_EVERY, keep=1),
        log=LogConfig(every=_LOG_EVERY, tensorboard=False),
    )
