"""Killed in the N-th change of the output's files, also with a write half done; the same line again: the same bytes.

A preloaded library (crash_points.c) ends the program there. Some of the changes, chosen by lot; `nightly_crash_points`
goes through all of them.
"""

import crash_points
import interrupted_job
import pytest


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return interrupted_job.make(tmp_path_factory.mktemp("crashes"))


@pytest.fixture(scope="module")
def crashes(job):
    """crashes(output, more, ...) makes a CrashTest with the library preloaded."""
    return lambda output, more, **where: crash_points.CrashTest(job, output, more, **where)


def chosen_points(names, dice):
    """One of each kind of change, all of the publication, and some others."""
    firsts = {name: point for point, name in reversed(list(enumerate(names, 1)))}
    publication = next(point for point, name in enumerate(names, 1) if "metadata.tmp" in name or "attributes" in name)
    begun = range(publication, len(names) + 1)
    return sorted({*firsts.values(), *dice.sample(begun, min(6, len(begun))), *dice.sample(range(1, publication), 3)})


@pytest.mark.parametrize("suffix, more", [("h5", ["--batch", "60"]), ("npy", ["--batch", "60"]),
                                          ("h5", crash_points.STREAMED)], ids=["resident", "npy", "streamed"])
def test_killed_in_the_middle_of_any_change_to_the_files(crashes, dice, tmp_path, suffix, more):
    test = crashes(tmp_path / f"out.{suffix}", more)
    names = test.all_points(tmp_path / "log")
    assert len(names) > 30, names
    faults = []
    for point in chosen_points(names, dice):
        half = "write" in names[point - 1] or dice.random() < 0.5
        faults += test.crash_and_resume(point, half, names[point - 1])
    assert not faults, "\n".join(faults)


def test_other_rank_killed_in_the_middle_of_a_write(crashes, dice, tmp_path):
    test = crashes(tmp_path / "out.h5", ["--batch", "30"], ranks=2, rank=1)
    names = test.all_points(tmp_path / "log")
    faults = []
    for point in dice.sample(range(1, len(names) + 1), 3):
        faults += test.crash_and_resume(point, True, names[point - 1])
    assert not faults, "\n".join(faults)
