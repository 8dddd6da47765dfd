"""What the device is given for edits that run together: requests and pictures as arrays."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

from mre_jax.diffusion.guidance import LOW_REWARD, Guidance, plan_guidance
from mre_jax.diffusion.noise import item_keys
from mre_jax.editing.program import EditBatch, InstructionStates, RewardBatch
from mre_jax.editing.request import EditRequest
from mre_jax.editing.settings import SamplingSettings
from mre_jax.io.image import to_array
from mre_jax.reward.scores import BEST, WORST, Scores
from mre_jax.reward.text import asked_text
from mre_jax.weights.tokens import Tokenizer


def guidance_of(requests: Sequence[EditRequest], settings: SamplingSettings) -> Guidance:
    """The guidance branches and weights of edits that run together.

    Raises:
        ConfigError: if they have no branches in common, or a scale is below 1.
    """
    return plan_guidance(
        settings.guidance_rule,
        [request.guidance_scale for request in requests],
        [request.image_guidance_scale for request in requests],
        [request.reward_guidance_scale for request in requests],
    )


def prompts_of(requests: Sequence[EditRequest], settings: SamplingSettings) -> list[str]:
    """What the editor reads: each instruction with the settings' suffix."""
    return [request.prompt + settings.prompt_suffix for request in requests]


def edit_inputs(
    requests: Sequence[EditRequest],
    images: Sequence[Image.Image],
    settings: SamplingSettings,
    *,
    tokenizer: Tokenizer,
    perspectives: Sequence[str],
    instruction: InstructionStates | None = None,
    latents: Float[np.ndarray, "b h w c"] | None = None,
) -> EditBatch:
    """The arrays of a batch.

    Args:
        images: RGB, one per request, all of one size.
        perspectives: perspectives that the checkpoint takes; none if it takes no reward.
        instruction: what an instruction encoder made of them; None for CLIP's text encoder.
        latents: noise to start from, instead of the seeds'.
    """
    guidance = guidance_of(requests, settings)

    def reward(scores: Sequence[Scores | None], texts: Sequence[str | None]) -> RewardBatch:
        asked = [asked_text(perspectives) if text is None else text for text in texts]
        return RewardBatch(
            np.asarray([WORST if one is None else one for one in scores], np.float32),
            tokenizer(asked, "reward text"),
            np.asarray([one is not None for one in scores]),
        )

    texts = [request.reward_text for request in requests]
    prompts = prompts_of(requests, settings)
    low_texts = [
        request.reward_text if request.low_reward_text is None else request.low_reward_text
        for request in requests
    ]
    return EditBatch(
        pixels=np.stack([to_array(image) for image in images]),
        prompt_ids=tokenizer(prompts) if instruction is None else None,
        instruction=instruction,
        negative_ids=tokenizer([r.negative_prompt for r in requests], "negative prompt"),
        keys=item_keys([r.seed for r in requests], [r.id for r in requests]),
        guidance=guidance,
        latents=latents,
        reward=reward([r.reward_scores or BEST for r in requests], texts) if perspectives else None,
        low_reward=reward([r.low_reward_scores for r in requests], low_texts)
        if LOW_REWARD in guidance.branches
        else None,
    )
