"""Asked to stop: exit code 75 with a message, then the same line gives the same bytes.

What reaches the ranks depends on the launcher. Open MPI's mpirun passes SIGUSR1 on and waits for the ranks; on SIGTERM
and SIGINT it ends them itself, so there the promise is only that the line can be run again.
"""

import json
import os
import pathlib
import re
import signal
import time

import interrupted_job
import pytest
import support
from interrupted_job import RESIDENT, STREAMED

STOPPED = 75
PROMPT_SECONDS = 60
ACKNOWLEDGED = "mpishards: stopping after the batch in work; once more to stop sooner"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return interrupted_job.make(tmp_path_factory.mktemp("signals"))


def signalled(job, output, ranks, more, number, kind="finished", count=3, receivers=None):
    """A running job that has saved something, with a signal to the process started or to what `receivers` gives."""
    process = interrupted_job.launch_held(job.library, job.line(output, *more), output, ranks, kind, count)
    for pid in receivers(process) if receivers else [process.pid]:
        os.kill(pid, number)
    interrupted_job.let_go(process, ranks, number if receivers is not one_other_rank else None)
    return process


def assert_stops(process, output):
    """Exit code 75, one sentence that says how to go on, no result yet but all that is needed to resume.

    Returns what was said before that sentence.
    """
    _, stderr = process.communicate(timeout=PROMPT_SECONDS)
    assert process.returncode == STOPPED, f"{process.returncode}\n{stderr}"
    said = [line for line in stderr.splitlines() if line.startswith("mpishards:")]
    assert said and re.search(r"stopped.*run the same (command|line) again", said[-1]), stderr
    assert said[:-1] in ([], [ACKNOWLEDGED]), stderr
    assert not output.exists()
    assert os.path.exists(f"{output}.partial") and os.path.exists(f"{output}.journal")
    assert not os.path.exists(f"{output}.lock")
    heartbeat = json.loads(pathlib.Path(f"{output}.heartbeat.json").read_text())
    assert heartbeat["phase"] == "stopped"
    support.assert_no_orphans(output.parent)
    return said[:-1]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_without_launcher(job, tmp_path, number):
    output = tmp_path / "out.h5"
    process = signalled(job, output, None, RESIDENT, number)
    assert assert_stops(process, output) == [ACKNOWLEDGED]
    assert job.finish(output, job.line(output, *RESIDENT)) == 1


def test_quiet_stop_says_nothing(job, tmp_path):
    process = signalled(job, tmp_path / "out.h5", None, [*RESIDENT, "-q"], signal.SIGTERM)
    assert process.communicate(timeout=PROMPT_SECONDS)[1] == ""
    assert process.returncode == STOPPED


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("more, kind", [(RESIDENT, "finished"), (STREAMED, "checkpoint")], ids=["resident", "streamed"])
def test_signal_to_every_rank(job, tmp_path, number, more, kind):
    output = tmp_path / "out.h5"
    process = signalled(job, output, 3, more, number, kind, 1, receivers=support.child_pids)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *more), 3) == 1


def test_signal_to_one_rank_stops_all(job, tmp_path):
    output = tmp_path / "out.h5"
    process = signalled(job, output, 3, RESIDENT, signal.SIGUSR1, receivers=one_other_rank)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *RESIDENT), 2) == 1


def one_other_rank(process):
    """A rank that is not the held one."""
    held = interrupted_job.held_rank(process, 3)
    return [next(pid for pid in support.child_pids(process) if pid != held)]


def test_signal_while_a_streamed_group_is_half_done(job, tmp_path):
    output = tmp_path / "out.h5"
    process = interrupted_job.launch_held(job.library, job.line(output, *STREAMED), output, 2, "checkpoint", 2)
    interrupted_job.let_go(process, 2)
    for pid in support.child_pids(process):
        os.kill(pid, signal.SIGTERM)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *RESIDENT), 3) == 1


def test_mpirun_passes_sigusr1_on(job, tmp_path):
    output = tmp_path / "out.h5"
    process = signalled(job, output, 3, RESIDENT, signal.SIGUSR1)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *RESIDENT), 3) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_mpirun_told_to_end_leaves_a_job_that_resumes(job, tmp_path, number):
    """mpirun ends its ranks itself, a moment later: it wakes them, asks them to end, and kills them."""
    output = tmp_path / "out.h5"
    process = interrupted_job.launch(job.line(output, *RESIDENT), 3,
                                     interrupted_job.hold_after(job.library, output, "finished", 3, HOLD_SECONDS=5))
    assert support.wait_until(lambda: interrupted_job.records(output, "finished") == 3, process)
    process.send_signal(number)
    assert interrupted_job.end_of(process, tmp_path) != 0
    assert not output.exists()
    assert job.finish(output, job.line(output, *RESIDENT), 3) == 1


def test_second_sigterm_does_not_disturb_the_stop(job, tmp_path):
    output = tmp_path / "out.h5"
    process = signalled(job, output, None, RESIDENT, signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *RESIDENT)) == 1


def test_third_signal_ends_at_once_and_the_job_still_resumes(job, tmp_path):
    """All three are on their way before the job goes on; signals of one number merge, so three numbers."""
    output = tmp_path / "out.h5"
    process = interrupted_job.launch_held(job.library, job.line(output, *RESIDENT), output, None)
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    for number in numbers:
        process.send_signal(number)
    interrupted_job.let_go(process, None)
    assert interrupted_job.end_of(process, tmp_path) in [128 + number for number in numbers]
    assert job.finish(output, job.line(output, *RESIDENT)) == 1


def test_stop_is_soon(job, tmp_path):
    """One batch of the job takes milliseconds, so a stop must not take seconds."""
    output = tmp_path / "out.h5"
    process = signalled(job, output, None, RESIDENT, signal.SIGTERM)
    began = time.monotonic()
    assert_stops(process, output)
    assert time.monotonic() - began < 5


def test_finished_report_of_a_stopped_job_is_not_written(job, tmp_path):
    process = signalled(job, tmp_path / "out.h5", None, RESIDENT, signal.SIGTERM)
    assert_stops(process, tmp_path / "out.h5")
    assert not [path.name for path in tmp_path.iterdir() if "report" in path.name]
