"""A SmartEdit of the toy world, small enough to ship, from the toy editor and nothing else."""
