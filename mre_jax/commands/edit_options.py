"""The options that `mre edit` and `mre sample` share, and what they load."""

import argparse
import os
from typing import Any

from mre_jax.commands.model_options import add_model, add_weights
from mre_jax.commands.options import parse_numbers
from mre_jax.diffusion.samplers import SAMPLERS
from mre_jax.editing.model_spec import ModelSpec
from mre_jax.editing.request import EditRequest
from mre_jax.editing.settings import SamplingSettings
from mre_jax.editing.size import RESOLUTION, SIZE

HIVE = "hive"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, the sampling and the conditions of an edit."""
    model = parser.add_argument_group("model")
    add_model(model, "(default: $MRE_MODEL) ", default=os.environ.get("MRE_MODEL"))
    add_weights(model)
    model.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    model.add_argument("--attention", default="auto", help="attention implementation (%(default)s)")
    model.add_argument("--vae-tiling", action="store_true", help="less memory at 1024 px and more")

    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "--steps",
        type=int,
        default=SamplingSettings.num_inference_steps,
        help="denoising steps (%(default)s)",
    )
    sampling.add_argument(
        "--scheduler",
        help=f"{', '.join(SAMPLERS)} (the checkpoint's own; one that is not among these is "
        "replaced by the first, which is said); heun runs the UNet twice a step, once in the last",
    )
    sampling.add_argument("--guidance-rule", default="instruct_pix2pix", help="(%(default)s)")
    sampling.add_argument(
        "--guidance-scale", type=float, default=EditRequest.guidance_scale, help="(%(default)s)"
    )
    sampling.add_argument(
        "--image-guidance-scale",
        type=float,
        default=EditRequest.image_guidance_scale,
        help="(%(default)s)",
    )
    sampling.add_argument("--negative-prompt", default="", help="read instead of no instruction")
    sampling.add_argument(
        "--prompt-suffix", default="", help=f"appended to every prompt; {HIVE!r} stands for HIVE's"
    )
    sampling.add_argument(
        "--size", default=SIZE, help="paper, released_code, keep or WIDTHxHEIGHT (%(default)s)"
    )
    sampling.add_argument(
        "--resolution", type=int, default=RESOLUTION, help="of the presets (%(default)s)"
    )
    sampling.add_argument("--seed", type=int, default=0, help="(%(default)s)")

    reward = parser.add_argument_group("reward, for checkpoints that take one")
    reward.add_argument("--reward", metavar="F,P,Q", help="following, preserving, quality (5,5,5)")
    reward.add_argument("--reward-text", help='("None; None; None")')
    reward.add_argument("--reward-guidance-scale", type=float, default=1.0, help="(off: 1.0)")
    reward.add_argument("--low-reward", metavar="F,P,Q", default="0,0,0", help="(%(default)s)")
    reward.add_argument("--low-reward-text", help="(the reward text)")


def settings(args: argparse.Namespace) -> SamplingSettings:
    """The sampling settings that the options ask for."""
    from mre_jax.editing.settings import HIVE_PROMPT_SUFFIX

    suffix = HIVE_PROMPT_SUFFIX if args.prompt_suffix == HIVE else args.prompt_suffix
    return SamplingSettings(
        num_inference_steps=args.steps,
        scheduler=args.scheduler,
        guidance_rule=args.guidance_rule,
        prompt_suffix=suffix,
    )


def request_fields(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of `EditRequest` that the options set."""
    return {
        "seed": args.seed,
        "negative_prompt": args.negative_prompt,
        "guidance_scale": args.guidance_scale,
        "image_guidance_scale": args.image_guidance_scale,
        "reward_scores": None if args.reward is None else parse_numbers(args.reward, "--reward"),
        "reward_text": args.reward_text,
        "reward_guidance_scale": args.reward_guidance_scale,
        "low_reward_scores": parse_numbers(args.low_reward, "--low-reward"),
        "low_reward_text": args.low_reward_text,
    }


def load_pipeline(args: argparse.Namespace) -> Any:
    """The pipeline of `--model`, with compiled programs kept on disk."""
    spec = ModelSpec(
        model=args.model or "",
        base=args.base,
        lora=tuple(args.lora),
        weights=args.weights,
        dtype=args.dtype,
        attention=args.attention,
        vae_tiling=args.vae_tiling,
    )
    return spec.load()
