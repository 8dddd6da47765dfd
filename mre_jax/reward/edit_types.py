"""The types of instruction that the paper's benchmark has."""

EDIT_TYPES = ("Local", "Remove", "Add", "Texture", "Background", "Global", "Style")
"""In their order, which numbers them from 1."""
