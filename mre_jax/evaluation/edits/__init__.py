"""The edits of a benchmark: a checkpoint's, or a folder of somebody's."""
