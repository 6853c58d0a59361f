"""log.csv begins with its columns, grows by a row for each step, and after an interruption ends at the checkpoint."""
import pytest

from shared.errors import InputError
from shared.log import append_row, start_log

COLUMNS = ["step", "total", "AP50"]


def test_a_log_by_hand(tmp_path):
    path = tmp_path / "run" / "log.csv"                                      # its folder does not exist yet
    start_log(path, COLUMNS, done=0)
    append_row(path, COLUMNS, {"step": 1, "total": 2.5})                     # no value of AP50 in this step
    append_row(path, COLUMNS, {"AP50": 0.25, "step": 2, "total": 1e-7})
    assert path.read_bytes() == b"step,total,AP50\r\n1,2.5,\r\n2,1e-07,0.25\r\n"


def test_rows_beyond_the_checkpoint_are_dropped(tmp_path):
    # The training was killed in step 12; its last checkpoint is of step 10. 9 is not beyond 10, although "9" > "10".
    path = tmp_path / "log.csv"
    path.write_text("step,total,AP50\n9,3,\n10,2,.5\n11,1,\n")
    start_log(path, COLUMNS, done=10)
    assert path.read_text().splitlines() == ["step,total,AP50", "9,3,", "10,2,.5"]
    append_row(path, COLUMNS, {"step": 11, "total": 1.5})
    assert path.read_text().splitlines()[3:] == ["11,1.5,"]


def test_a_new_training_begins_a_new_log(tmp_path):
    # The training before it was killed before its first checkpoint, so that it begins again at step 1.
    path = tmp_path / "log.csv"
    path.write_text("step,total,AP50\n1,3,\n")
    start_log(path, COLUMNS, done=0)
    assert path.read_text().splitlines() == ["step,total,AP50"]


def test_a_log_that_was_deleted_begins_again(tmp_path):
    start_log(tmp_path / "log.csv", COLUMNS, done=10)
    assert (tmp_path / "log.csv").read_text().splitlines() == ["step,total,AP50"]


def test_the_columns_are_todays(tmp_path):
    # Since the interruption the script has lost the column loss and gained AP50, and total comes first.
    path = tmp_path / "log.csv"
    path.write_text("step,loss,total\n1,7,3\n")
    start_log(path, ["total", "step", "AP50"], done=1)
    assert path.read_text().splitlines() == ["total,step,AP50", "3,1,"]


def test_a_value_without_a_column_is_an_error(tmp_path):
    start_log(tmp_path / "log.csv", COLUMNS, done=0)
    with pytest.raises(ValueError, match="mAP"):
        append_row(tmp_path / "log.csv", COLUMNS, {"step": 1, "mAP": 0.5})


def test_an_interruption_leaves_the_old_log(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    path.write_text("step,total,AP50\n1,3,\n")

    def power_cut(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("shared.log.csv.DictWriter.writeheader", power_cut)
    with pytest.raises(KeyboardInterrupt):
        start_log(path, COLUMNS, done=1)
    assert path.read_text() == "step,total,AP50\n1,3,\n" and list(tmp_path.iterdir()) == [path]


# ---- a damaged log does not keep a training from going on

WHOLE = b"step,total,AP50\r\n1,3,\r\n2,2.5,.5\r\n3,2,\r\n"


@pytest.mark.parametrize("damaged, kept, lines", [
    (WHOLE[:-4], ["1,3,", "2,2.5,.5"], 1),                                   # "3,": the disk was full
    (WHOLE.replace(b"2.5", b"1e"), ["1,3,", "3,2,"], 1),
    (WHOLE.replace(b"2,2.5", b"x,2.5"), ["1,3,", "3,2,"], 1),
    (WHOLE.replace(b"2.5", b"2.\xff"), ["1,3,", "3,2,"], 1),                 # not UTF-8
    (WHOLE.replace(b",.5", b",.5,7"), ["1,3,", "3,2,"], 1),                  # a column too many
    (WHOLE + b"\r\n", ["1,3,", "2,2.5,.5", "3,2,"], 1),
    (WHOLE.replace(b",", b";"), [], 4),                                      # as a spreadsheet saves it
    (WHOLE.replace(b"step", b"stp"), [], 4),
    (b"\0" * 99, [], 1),                                                     # a power cut
    (b"", [], 1),
])
def test_rows_that_cannot_be_read_are_left_out_and_kept_elsewhere(tmp_path, capsys, damaged, kept, lines):
    path = tmp_path / "log.csv"
    path.write_bytes(damaged)
    start_log(path, COLUMNS, done=3)
    assert path.read_text().splitlines() == ["step,total,AP50", *kept]
    assert (tmp_path / "log_damaged_1.csv").read_bytes() == damaged
    assert capsys.readouterr().out == (f"{path}: {lines} of its lines cannot be read and are left out; the file is "
                                       "kept as log_damaged_1.csv\n")
    path.write_bytes(WHOLE.replace(b"2.5", b"2.5.5"))                        # another time
    start_log(path, COLUMNS, done=3)
    assert (tmp_path / "log_damaged_1.csv").read_bytes() == damaged
    assert b"2.5.5" in (tmp_path / "log_damaged_2.csv").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv", "log_damaged_1.csv", "log_damaged_2.csv"]


def test_a_whole_log_says_nothing(tmp_path, capsys):
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE)                                # a spreadsheet's mark of UTF-8
    start_log(path, COLUMNS, done=2)
    assert path.read_text().splitlines() == ["step,total,AP50", "1,3,", "2,2.5,.5"]
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == [path]


def test_the_second_process_writes_no_log(tmp_path):
    start_log(tmp_path / "run" / "log.csv", COLUMNS, done=0, rank=1)
    assert not (tmp_path / "run").exists()


def test_a_row_that_cannot_be_written(tmp_path):
    path = tmp_path / "log.csv"
    path.mkdir()
    with pytest.raises(InputError, match="log.csv: cannot be written .Is a directory"):
        append_row(path, COLUMNS, {"step": 1})
