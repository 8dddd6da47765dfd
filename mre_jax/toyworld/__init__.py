"""A procedural world of instruction edits in which the three rewards are computed exactly."""
