"""Names of tensors in the public layouts, and the rule from them to ours."""
