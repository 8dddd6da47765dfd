"""Triplets as records of TFRecord shards, and the folder that holds them."""
