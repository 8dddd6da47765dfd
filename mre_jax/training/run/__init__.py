"""The directory of a run, and what the run writes about itself."""
