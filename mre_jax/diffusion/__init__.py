"""Noise schedules, samplers and guidance, as pure functions of arrays."""
