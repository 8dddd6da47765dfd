"""States of a run, saved and restored."""
