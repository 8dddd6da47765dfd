"""Whether a machine, or a pod, is ready for a run: everything that can be known before a step."""
