"""What of a machine is this process's."""

import os

import pytest

from distilrec.io.machine import _accelerator, usable_cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "unreadable"}, None),
        ({}, None),
    ],
)
def test_a_containers_limit_bounds_the_cores(tmp_path, files, cores):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == (cores or len(os.sched_getaffinity(0)))


def test_the_accelerator_is_the_drivers_first(tmp_path):
    """A fake tree in place of the driver's: this machine has none."""
    assert _accelerator(tmp_path) is None
    for number in (1, 0):
        (tmp_path / f"0000:{number}").mkdir()
        (tmp_path / f"0000:{number}" / "information").write_text(f"Model: \t\t NVIDIA {number}\nIRQ:   \t\t 7\n")
    assert _accelerator(tmp_path) == "NVIDIA 0"
