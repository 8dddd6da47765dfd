"""Errors that a user can cause and cure: one line, and an exit code of `exit_codes`."""


class PodError(Exception):
    """One line that names the offender and the remedy."""

    exit_code = 70


class SettingsError(PodError):
    """A setting is missing, unknown or cannot be; nothing was called."""

    exit_code = 78


class NotReadyError(PodError):
    """The workers are not such as the command needs, and would not be at another try.

    Attributes:
        exit_code: of `mre doctor`.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class CallError(PodError):
    """A program of the cloud refused, or could not be reached.

    Attributes:
        output: what it said.
    """

    def __init__(self, message: str, output: str = ""):
        super().__init__(message)
        self.output = output
