"""The paper's story in miniature, told by the commands of `mre`."""
