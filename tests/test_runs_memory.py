"""Freed memory that stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from lib.runs.memory import keep_freed

CHILD = """
import resource, sys
from lib.runs import memory

if sys.argv[1] == "kept":
    assert memory.keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"1" * 128_000_000  # freed at once
before = faults()
for _ in range(3):
    b"1" * 128_000_000
print(faults() - before)
"""


def faults(how):
    done = subprocess.run([sys.executable, "-c", CHILD, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_not_asked_for_again():
    """Three times 128 MB are many pages, large ones too, or none."""
    assert faults("kept") < 50 < 150 < faults("given back")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed.__wrapped__() is False
