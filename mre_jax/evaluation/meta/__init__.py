"""Judges as instruments: how well they agree with people, with themselves, and with each other."""
