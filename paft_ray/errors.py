"""The one exception type for what a user can mend."""


class UserError(ValueError):
    """Bad input: one line that says what was given, what is allowed and what to do.

    The command line prints it without a traceback and exits with code 2. Raised before any resource is requested.
    """


class StageError(RuntimeError):
    """A stage failed on work that had started (an engine died, too many rows failed); exit code 1, the run can be resumed."""
