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
        vae_widths: channels of the autoencoder's levels.
        latent_channels: channels of a latent; half of what the UNet reads.
        vae_steps: steps of the autoencoder's training.
        vae_batch: pictures of such a step.
        vae_rate: its highest learning rate.
        widths: channels of the UNet's levels; all but the first read the instruction.
        text_width: width of the text encoder's states.
        text_layers: layers of the text encoder.
        tokens: tokens in the text encoder's window.
        steps: steps of the editor's training.
        batch: examples of such a step.
        rate: its highest learning rate.
        min_snr_gamma: weighs timesteps in its loss: without that, the small errors of little noise
            drown what decides whether an edit is made.
        dropout: share of the examples that lose the text, the image, or both.
        ema_decay: decay of the moving average that is kept of the editor.
    """

    seed: int = 1
    size: int = 24
    examples: int = 30_000
    vae_widths: tuple[int, ...] = dataclasses.field(default=(16, 32), metadata=_FIXED)
    latent_channels: int = 6
    vae_steps: int = 2_400
    vae_batch: int = 32
    vae_rate: float = 3e-3
    widths: tuple[int, ...] = dataclasses.field(default=(48, 96), metadata=_FIXED)
    text_width: int = 64
    text_layers: int = 2
    tokens: int = 36
    steps: int = 5_000
    batch: int = 32
    rate: float = 1.5e-3
    min_snr_gamma: float = 1.0
    dropout: float = 0.05
    ema_decay: float = 0.999
