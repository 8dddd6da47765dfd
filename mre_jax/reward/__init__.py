"""The reward of an edit: its perspectives, scores, texts, file, configuration and statistics."""
