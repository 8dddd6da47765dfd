"""Judges that are no model: people, a journal, the toy world."""
