"""Benchmarks, their statistics, and the paper's tables."""
