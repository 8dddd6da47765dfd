"""Editing images: the pipeline for a few, the batch sampler for many."""
