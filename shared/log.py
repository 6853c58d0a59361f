"""log.csv: one row for each training step, with named columns. A column without a value in a step is empty."""
import csv

from shared.errors import InputError
from shared.paths import atomic_write


def start_log(path, columns, done, rank=0):
    """
    Begins log.csv with these columns. A training that continues keeps the rows up to step `done`, the step of its
    checkpoint. Lines that cannot be read are left out; then the old file is kept under another name, and a message says
    so. Of several processes the one with rank 0 does this.
    """
    if rank > 0:
        return
    rows = []
    if done and path.exists():
        rows, damaged = read_rows(path)
        if damaged:
            copy = keep_copy(path)
            print(f"{path}: {damaged} of its lines cannot be read and are left out; the file is kept as {copy.name}")
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row in rows if int(row["step"]) <= done)


def append_row(path, columns, row):
    """Adds a row, a dict of some of the columns, to log.csv. Raises InputError if it cannot be written."""
    try:
        with open(path, "a", newline="") as file:
            csv.DictWriter(file, columns).writerow(row)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None


def read_rows(path):
    """-> a list of {column: text}, one for each row that can be read, and how many lines cannot be read"""
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").splitlines() or [""]
    columns, rows, damaged = lines[0].split(","), [], 0
    if "step" not in columns:
        return [], len(lines)
    for line in lines[1:]:
        values = line.split(",")
        row = dict(zip(columns, values))
        try:
            int(row["step"])
            numbers = [float(value) for value in values if value]
        except (KeyError, ValueError):
            numbers = None
        if numbers is None or len(values) != len(columns):
            damaged += 1
        else:
            rows.append(row)
    return rows, damaged


def keep_copy(path):
    """Copies log.csv to log_damaged_1.csv beside it, or to the first such name that is free, and returns its path."""
    number = 1
    while path.with_stem(f"{path.stem}_damaged_{number}").exists():
        number += 1
    copy = path.with_stem(f"{path.stem}_damaged_{number}")
    with atomic_write(copy) as temporary:
        temporary.write_bytes(path.read_bytes())
    return copy
