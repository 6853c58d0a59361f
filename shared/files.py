"""Reads files that a user names. Whatever is wrong with one raises an InputError of one line that names it."""
import os
import stat

from shared.errors import InputError, one_line


def check_file(path):
    """
    Raises InputError if there is no ordinary file at the path. Opening a named pipe or a device would wait for ever.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:                   # ValueError: a zero byte in the path
        raise InputError(f"{one_line(path, 1000)}: {reason(error)}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{one_line(path, 1000)}: is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{one_line(path, 1000)}: is a pipe or a device, not a file")


def reason(error):
    """Why a file could not be opened or read, in words: "no such file", "permission denied" ..."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError, ValueError)):
        return "no such file"
    return (error.strerror or str(error)).lower()


def read_bytes(path):
    """The content of a file. Raises InputError if it cannot be read."""
    check_file(path)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{one_line(path, 1000)}: {reason(error)}") from None


def read_lines(path):
    """The lines of a text file in UTF-8, with or without a byte order mark. Raises InputError if it cannot be read."""
    try:
        return read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeError:
        raise InputError(f"{one_line(path, 1000)}: not UTF-8 text; save it as UTF-8") from None
