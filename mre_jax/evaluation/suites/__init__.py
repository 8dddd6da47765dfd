"""The benchmarks, one file each, and readers of their files."""
