"""Weights in and out: PyTorch files of every public layout to NNX modules and back, strictly."""
