"""The errors that reach a user, each with the exit code its command ends with.

Every message is one line that says what was wrong, where, and what to do about it.
"""


class ClusterR1Error(Exception):
    """Base of all errors that this package raises on purpose.

    `exit_code` is what the command line ends with when the error reaches it.
    """

    exit_code = 1


class InputError(ClusterR1Error):
    """The input (file, column, option, argument) cannot be used; nothing was spent."""

    exit_code = 2


class MissingDependencyError(InputError):
    """Something optional is not installed; the message holds the command that installs it."""


class MissingKeyError(InputError):
    """A hosted model needs a key that is not in the environment; the message names the variable."""


class ModelError(ClusterR1Error):
    """A model could not be reached, or gave no usable answer after all retries."""

    exit_code = 3


class RefusedError(ModelError):
    """A model's server refused this one request (too long, against its rules); others may be answered."""


class BudgetError(ClusterR1Error):
    """The next call would exceed a budget, in tokens or US dollars, that the user set."""

    exit_code = 4


class ShortfallError(ClusterR1Error):
    """A synthesis made all the attempts it may, and fewer tasks were accepted than were asked for."""

    exit_code = 5
