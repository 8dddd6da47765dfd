"""Training: configuration, state, one jitted step, checkpoints, and the loop around them."""
