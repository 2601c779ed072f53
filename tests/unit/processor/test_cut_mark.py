"""A cut that was noticed once is not forgotten by a restart."""

from pathlib import Path

import pytest

from services.processor.cut_mark import NAME, leave_mark, refuse_marked
from streams.errors import LogTruncated


def test_without_a_mark_nothing_is_refused(tmp_path: Path) -> None:
    """Also before the directory is there."""
    refuse_marked(tmp_path / "not there yet")


def test_the_first_reason_stays_and_refuses(tmp_path: Path) -> None:
    """The message names the file to remove."""
    leave_mark(tmp_path, "partition 3 was cut.", 1)
    leave_mark(tmp_path, "something later", 2)
    with pytest.raises(LogTruncated, match=r"partition 3 was cut.*LOG_WAS_CUT"):
        refuse_marked(tmp_path)


def test_a_damaged_mark_refuses_too(tmp_path: Path) -> None:
    """Half a file is more than none."""
    (tmp_path / NAME).write_bytes(b'{"rea')
    with pytest.raises(LogTruncated, match="cannot be read"):
        refuse_marked(tmp_path)
