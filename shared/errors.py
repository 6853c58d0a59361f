"""The error for what a user can put right, a file or a constant, and how a script ends with it."""
import sys


class InputError(ValueError):
    """
    Something given to the program cannot be used. The message is one line. It names the file or the constant and says
    what is wrong with it.
    """


def check_choice(script, name, value, choices):
    """Raises InputError if a script's constant is none of the values that it may have."""
    if value not in choices:
        raise InputError(f"{script}: {name} {value!r} is none of {tuple(choices)}")


def run(main):
    """Calls a script's main(). An InputError ends the script with the error's line and without a traceback."""
    try:
        main()
    except InputError as error:
        # An error in a process that loads images arrives as a text: its traceback, then its name, then the message.
        sys.exit(str(error).split("InputError: ")[-1].strip())
