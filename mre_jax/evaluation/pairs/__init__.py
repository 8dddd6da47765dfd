"""Pairs of edits before a judge."""
