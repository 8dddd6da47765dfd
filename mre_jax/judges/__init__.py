"""Judges of edits: what is asked, who answers, and a journal of the answers."""
