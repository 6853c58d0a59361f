"""log.csv begins with its columns, grows by a row for each step, and after an interruption ends at the checkpoint."""
import pytest

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
