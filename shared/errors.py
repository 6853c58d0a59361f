"""The error for what a user can put right, a file or a constant, and how a script ends with it."""
import math
import os
import sys
import time


class InputError(ValueError):
    """
    Something given to the program cannot be used. The message is one line. It names the file or the constant and says
    what is wrong with it. Of a data set it has one line for each problem.
    """


def one_line(text, limit=200):
    """The text with \\n in place of a line break and \\x07 of a control character, cut off after `limit` characters."""
    line = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text)[:limit + 1])
    return line if len(line) <= limit else line[:limit] + " ..."


def check_choice(script, name, value, choices):
    """Raises InputError if a script's constant is none of the values that it may have."""
    if value not in tuple(choices):                          # tuple: choices may be a dict, and value a list
        raise InputError(f"{script}: {name} {one_line(repr(value))} is none of {tuple(choices)}")


def check_loss(script, step, terms):
    """Raises InputError if a term of a step's loss, {name: value}, is not finite."""
    if not all(map(math.isfinite, terms.values())):
        raise InputError(f"{script}: the loss of step {step} is not finite: {terms}. last.pt is unchanged")


def run(main):
    """
    Calls a script's main(). Ends the script with one line, and without a traceback, after
    - an InputError, with its message; exit code 1
    - Ctrl-C or a SIGTERM, with the message of the KeyboardInterrupt if it has one; exit code 130 or 143
    - BatchNorm's error that it needs more than one value per channel, with advice; exit code 1
    """
    rank = int(os.environ.get("RANK", 0))                    # torchrun: all processes may find the same error
    try:
        main()
    except InputError as error:
        if rank > 0:
            time.sleep(10)                                   # meanwhile torchrun ends this process if rank 0 ended
        # An error in a process that loads images arrives as a text: its traceback, then its name, then the message.
        sys.exit(str(error).split("InputError: ")[-1].strip())
    except KeyboardInterrupt as error:
        message, signal_number = error.args or ("Interrupted", 2)
        if rank == 0:
            print(f"\n{message}", file=sys.stderr)
        sys.exit(128 + signal_number)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        sys.exit("BatchNorm needs more than one value per channel: raise BATCH_SIZE, or lower SUBDIVISIONS, or raise "
                 "the size of the images")
