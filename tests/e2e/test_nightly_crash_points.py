"""Nightly: the program is killed in every single change that it makes to its output's files, and resumed."""

import crash_points
import interrupted_job
import pytest


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return interrupted_job.make(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("half, suffix, more", [
    (False, "h5", ["--batch", "60"]), (True, "h5", ["--batch", "60"]), (True, "npy", ["--batch", "120"]),
    (True, "ibin", ["--batch", "120"]), (True, "h5", crash_points.STREAMED)],
    ids=["before", "inside", "npy", "ibin", "streamed"])
def test_kill_in_every_change_of_the_files(job, tmp_path, half, suffix, more):
    test = crash_points.CrashTest(job, tmp_path / f"out.{suffix}", more)
    faults = []
    for point, name in enumerate(test.all_points(tmp_path / "log"), 1):
        faults += test.crash_and_resume(point, half, name)
    assert not faults, "\n".join(faults)
