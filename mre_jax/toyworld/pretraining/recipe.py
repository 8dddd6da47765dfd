"""What determines every weight of the toy editor, but for rounding."""

import dataclasses

_FIXED = {"option": False}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Sizes and steps. The defaults are those of the editor that ships.

    Attributes:
        seed: decides scenes, initial weights and training.
        size: pixels along a side of the pictures.
        examples: triplets that are drawn, as flawed as those of a data set.
        type_shares: how often a type of instruction is trained on, in the order of `EDIT_TYPES`:
            naming one object and changing it is learnt last.
        vae_widths: channels of the autoencoder's levels.
        latent_channels: channels of a latent; half of what the UNet reads.
        vae_steps: steps of the autoencoder's training.
        vae_batch: pictures of such a step.
        vae_rate: its highest learning rate.
        widths: channels of the UNet's levels, all of which read the instruction.
        text_width: width of the text encoder's states.
        text_layers: layers of the text encoder.
        tokens: tokens in the text encoder's window.
        clean_steps: steps on ideal edits, which teach the words; Stable Diffusion's training plays
            this part for InstructPix2Pix.
        steps: steps of the editor's training in all; after the clean ones, on flawed edits.
        batch: examples of such a step.
        rate: its highest learning rate.
        prediction_type: what the UNet predicts. Predicting the velocity weighs much noise, where
            it is decided whether an edit is made, as much as little; predicting the noise does not.
        change_weight: by how much more the latents count that an edit changes; most of a picture
            stays as it is.
        curve_every: steps between two points of the learning curve.
        dropout: share of the examples that lose the text, the image, or both.
        ema_decay: decay of the moving average that is kept of the editor.
    """

    seed: int = 1
    size: int = 24
    examples: int = 100_000
    type_shares: tuple[float, ...] = dataclasses.field(
        default=(4, 1, 1.5, 3, 1, 1, 1), metadata=_FIXED
    )
    vae_widths: tuple[int, ...] = dataclasses.field(default=(16, 32, 64), metadata=_FIXED)
    latent_channels: int = 24
    vae_steps: int = 3_000
    vae_batch: int = 32
    vae_rate: float = 3e-3
    widths: tuple[int, ...] = dataclasses.field(default=(48, 96), metadata=_FIXED)
    text_width: int = 64
    text_layers: int = 2
    tokens: int = 36
    clean_steps: int = 6_800
    steps: int = 8_000
    batch: int = 64
    rate: float = 1.5e-3
    prediction_type: str = "v_prediction"
    change_weight: float = 4.0
    curve_every: int = 1_000
    dropout: float = 0.05
    ema_decay: float = 0.999
