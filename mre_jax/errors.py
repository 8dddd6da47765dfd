"""Errors a user can cause and cure: one line that names the offender and the remedy.

The command line prints such an error without a traceback and exits with its `exit_code`, which a
supervisor reads: 65 and 78 must not be retried, 75 may be.
"""


class MreError(Exception):
    """Base of every error that is shown to the user as one line."""

    exit_code = 70


class ConfigError(MreError, ValueError):
    """A setting is unknown, out of range, or does not fit the others."""

    exit_code = 78


class DataError(MreError, ValueError):
    """An input file, image, text or weight file is missing, damaged or of the wrong kind."""

    exit_code = 65


class BusyError(MreError):
    """Another process is at the same work; try again when it is done."""

    exit_code = 75
