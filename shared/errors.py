"""The one error for what a user can put right: a file or a constant."""


class InputError(ValueError):
    """Something given to the program cannot be used. The message is one line; it names the file or constant and what
    is wrong with it. The scripts print that line alone, without a traceback."""
