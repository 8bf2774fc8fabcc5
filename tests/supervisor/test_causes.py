"""Why a process may have died: the kernel's count, and the causes that a log's end names."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.supervisor.causes import OomKills, cause_in_log, was_killed, with_cause
from epad.supervisor.engine import UNSEEN
from epad.supervisor.plain_engine import exited, killed


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.\n", "CUDA out of memory"),
        ("RuntimeError: CUDA error: out of memory\n", "CUDA out of memory"),
        ("MemoryError\n", "no memory could be had"),
        ("[Errno 98] error while attempting to bind: address already in use\n", "its address is in use"),
        ("ModuleNotFoundError: No module named 'vllm'\n", "a module is missing"),
        ("OSError: [Errno 28] No space left on device\n", "the disk is full"),
        ("Permission denied\nlater: CUDA out of memory\nshutting down\n", "CUDA out of memory"),
        ("all is well\n", ""),
        ("", ""),
        ("my MemoryError handling is fine\n", ""),
        ("\0\xff binary CUDA out of memory", "CUDA out of memory"),
    ],
)
def test_known_causes_are_told_in_words_of_ours(tmp_path: Path, text: str, cause: str) -> None:
    """The last line that names one counts; nothing of the log itself is quoted."""
    log = tmp_path / "it.log"
    log.write_text(text)
    assert cause_in_log(log) == cause


def test_only_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    """What a former life has left says nothing of this death; nor does a log that is not there, or is a link."""
    log, link = tmp_path / "it.log", tmp_path / "link.log"
    log.write_text("CUDA out of memory\n" + "all is well again\n" * 2_000)
    link.symlink_to(log)
    assert [cause_in_log(path) for path in (log, link, tmp_path / "none.log")] == ["", "", ""]


def test_the_kernels_count_tells_of_what_is_recent(tmp_path: Path) -> None:
    """A count from before the first look says nothing; a rise counts for some seconds."""
    vmstat = tmp_path / "vmstat"
    oom = OomKills(tmp_path)
    assert not oom.look(0.0)  # a kernel that counts none
    vmstat.write_text("nr_free_pages 1\noom_kill 4\n")
    assert not oom.look(10.0)
    assert not oom.look(20.0)
    vmstat.write_text("nr_free_pages 1\noom_kill 5\n")
    assert oom.look(30.0)
    assert oom.look(40.0)
    assert not oom.look(50.0)


def test_who_was_killed() -> None:
    """By the signal itself, or behind a shell."""
    assert [was_killed(s) for s in (killed(9), exited(137), killed(15), exited(1), UNSEEN)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    told = with_cause(killed(9), "out of memory")
    assert (told.text, told.succeeded) == ("signal SIGKILL (out of memory)", False)
    assert with_cause(exited(1), "") == exited(1)
