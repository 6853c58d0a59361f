"""log.csv: one row for each training step, with named columns. A column without a value in a step is empty."""
import csv

from shared.paths import atomic_write


def start_log(path, columns, done):
    """Begins a log.csv with these columns. Rows of an earlier start are kept up to step `done`, its checkpoint."""
    rows = []
    if done and path.exists():
        rows = [row for row in csv.DictReader(path.read_text().splitlines()) if int(row["step"]) <= done]
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def append_row(path, columns, row):
    """Adds a row, a dict of some of the columns, to log.csv."""
    with open(path, "a", newline="") as file:
        csv.DictWriter(file, columns).writerow(row)
