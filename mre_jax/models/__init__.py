"""The networks, in Flax NNX: CLIP, the autoencoder, the UNet and its reward condition.

Axes have one name throughout the project, in signatures and in einops patterns:

    b       examples of a batch
    h w     height and width of latents or of a feature map; h2 w2 where a layer changes them
    H W     height and width in pixels
    c       channels of a picture, of latents or of a feature map; they are the last axis
    n       the h*w tokens of a feature map, or patches; outside networks the items of a set
    t       tokens of a text, or of whatever is attended to
    m       tokens of a reward
    k       attention heads
    d, e    widths: of a token or feature, and of what a layer makes of it
    f       width of a position encoding
    p       perspectives of a reward

Tests check the shapes that signatures state (tests/conftest.py).
"""
