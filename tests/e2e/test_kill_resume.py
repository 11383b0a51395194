"""kill -9 at any moment, the same line again: the same bytes, and never half a result under its final name.

Of a random rank under mpirun, timed by what the job has written so far. `crash_points` ends the program inside its
changes of the files; `nightly_kills` kills many more times at random.
"""

import os
import time

import interrupted_job
import pytest
import support
from interrupted_job import RESIDENT, STREAMED


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return interrupted_job.make(tmp_path_factory.mktemp("kills"))


def test_memory_limit_of_these_tests_streams(job):
    assert interrupted_job.groups_of(job, 3, *STREAMED) >= 3
    assert interrupted_job.groups_of(job, 2, *STREAMED) >= 3
    assert interrupted_job.groups_of(job, None, *STREAMED) >= 3
    assert interrupted_job.groups_of(job, None, *RESIDENT) == 1


def is_all_over(output):
    """Published, and its journal gone: to the program a finished result like any other that exists."""
    return output.exists() and not os.path.exists(f"{output}.journal")


@pytest.mark.parametrize("kind, count, more", [
    ("identity", 1, RESIDENT), ("finished", 3, RESIDENT), ("finished", 60, RESIDENT), ("finished", 99, RESIDENT),
    ("identity", 1, STREAMED), ("checkpoint", 1, STREAMED), ("checkpoint", 2, STREAMED)],
    ids=lambda value: "streamed" if value is STREAMED else "resident" if value is RESIDENT else value)
def test_any_rank_killed_while_it_loads_or_searches(job, dice, tmp_path, kind, count, more):
    output = tmp_path / "out.h5"
    line = job.line(output, *more)
    process = interrupted_job.launch_held(job.library, line, output, 3, kind, count)
    assert interrupted_job.kill_one_rank(process, 3, dice)
    assert interrupted_job.end_of(process, tmp_path) != 0
    assert not output.exists(), "half a result has its final name"
    saved = interrupted_job.records(output, "finished") + interrupted_job.records(output, "checkpoint")
    assert job.finish(output, line, 3) == 1 or saved == 0


PHASES = {
    "before the output exists": lambda output: True,
    "searching": lambda output: interrupted_job.records(output, "finished") >= 3,
    "publishing": lambda output: os.path.exists(f"{output}.partial.metadata"),
}


@pytest.mark.parametrize("more", [RESIDENT, STREAMED], ids=["resident", "streamed"])
@pytest.mark.parametrize("phase", PHASES)
def test_any_rank_killed_at_no_chosen_moment(job, dice, tmp_path, phase, more):
    """Where the job is quicker than the kill, it must be whole; launch_held and the crash points never miss theirs."""
    output = tmp_path / "out.h5"
    line = job.line(output, *more)
    process = interrupted_job.launch(line, 3)
    support.wait_until(lambda: support.child_pids(process) and PHASES[phase](output), process, interval=0.0002)
    time.sleep(dice.choice([0, 0, 0.001, 0.003]))
    interrupted_job.kill_one_rank(process, 3, dice)
    code = interrupted_job.end_of(process, tmp_path)
    if code == 0 or is_all_over(output):
        assert support.payload(output) == job.expected
        return
    if output.exists():
        assert support.payload(output) == job.expected, "half a result has its final name"
    saved = interrupted_job.records(output, "finished") + interrupted_job.records(output, "checkpoint")
    resumes = job.finish(output, line, 3)
    assert resumes == 1 or saved == 0


@pytest.mark.parametrize("first, then", [
    ((3, RESIDENT), (2, ["--batch", "35"])), ((2, RESIDENT), (None, STREAMED)), ((3, STREAMED), (None, STREAMED)),
    ((3, STREAMED), (2, ["--memory", "1500KiB", "--batch", "64"])), ((2, STREAMED), (3, RESIDENT))],
    ids=["ranks and batch", "resident then streamed", "streamed, fewer ranks", "streamed, all different",
         "streamed then resident"])
def test_resume_on_other_ranks_batches_and_memory(job, dice, tmp_path, first, then):
    output = tmp_path / "out.h5"
    ranks, more = first
    kind = "checkpoint" if more is STREAMED else "finished"
    process = interrupted_job.launch_held(job.library, job.line(output, *more), output, ranks, kind, 2)
    assert interrupted_job.kill_one_rank(process, ranks, dice)
    assert interrupted_job.end_of(process, tmp_path) != 0
    assert job.finish(output, job.line(output, *then[1]), then[0]) == 1


def test_kill_during_the_resume(job, dice, tmp_path):
    output = tmp_path / "out.h5"
    line = job.line(output, *RESIDENT)
    for batches in (10, 30, 30):
        process = interrupted_job.launch_held(job.library, line, output, 3, count=batches)
        assert interrupted_job.kill_one_rank(process, 3, dice)
        assert interrupted_job.end_of(process, tmp_path) != 0
        assert not output.exists()
    assert job.finish(output, line, 3) == 3


@pytest.fixture
def stopped(job, dice, tmp_path):
    """An output that lost its job in the middle, and its command line."""
    output = tmp_path / "out.h5"
    line = job.line(output, *RESIDENT)
    process = interrupted_job.launch_held(job.library, line, output, None, count=5)
    assert interrupted_job.kill_one_rank(process, None, dice)
    assert interrupted_job.end_of(process, tmp_path) != 0
    return output, line


def test_partial_result_deleted_by_hand_starts_over(job, stopped):
    output, line = stopped
    (output.parent / "out.h5.partial").unlink()
    assert job.finish(output, line) == 0


def test_journal_deleted_by_hand_starts_over(job, stopped):
    output, line = stopped
    (output.parent / "out.h5.journal").unlink()
    assert job.finish(output, line) == 0


@pytest.mark.parametrize("torn", ["half of the last line", "zeros after the last line", "second record"])
def test_torn_journal_record_loses_only_what_it_said(job, stopped, torn):
    output, line = stopped
    journal = output.parent / "out.h5.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    if torn == "half of the last line":
        lines[-1] = lines[-1][:len(lines[-1]) // 2]
    elif torn == "zeros after the last line":
        lines.append(bytes(64))
    else:
        lines = [lines[0], lines[1][:-3]]
    journal.write_bytes(b"".join(lines))
    assert job.finish(output, line) == 1


def test_no_resume_starts_over(job, stopped):
    output, line = stopped
    assert job.finish(output, [*line, "--no-resume"]) == 0
