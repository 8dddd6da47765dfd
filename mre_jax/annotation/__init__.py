"""Rewards for triplets: asking a judge about every edit, and what its answers come to."""
