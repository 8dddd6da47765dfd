"""The networks, in Flax NNX: CLIP, the autoencoder, the UNet and its reward condition."""
