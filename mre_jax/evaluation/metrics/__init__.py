"""Metrics without a judge: of pixels, and of the features of CLIP, DINO and Inception."""
