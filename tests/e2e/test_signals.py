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


def start_and_wait_for(job, output, ranks, more, kind="finished", count=3):
    """A running job that has already saved something."""
    process = interrupted_job.launch(job.line(output, *more), ranks)
    assert support.wait_until(lambda: interrupted_job.records(output, kind) >= count, process, interval=0.0005)
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
    process = start_and_wait_for(job, output, None, RESIDENT)
    process.send_signal(number)
    assert assert_stops(process, output) == [ACKNOWLEDGED]
    assert job.finish(output, job.line(output, *RESIDENT)) == 1


def test_quiet_stop_says_nothing(job, tmp_path):
    output = tmp_path / "out.h5"
    process = start_and_wait_for(job, output, None, [*RESIDENT, "-q"])
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PROMPT_SECONDS)[1] == ""
    assert process.returncode == STOPPED


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("more, kind", [(RESIDENT, "finished"), (STREAMED, "checkpoint")], ids=["resident", "streamed"])
def test_signal_to_every_rank(job, tmp_path, number, more, kind):
    output = tmp_path / "out.h5"
    process = start_and_wait_for(job, output, 3, more, kind, 1)
    for pid in support.child_pids(process):
        os.kill(pid, number)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *more), 3) == 1


def test_signal_to_one_rank_stops_all(job, tmp_path):
    output = tmp_path / "out.h5"
    process = start_and_wait_for(job, output, 3, RESIDENT)
    os.kill(support.child_pids(process)[-1], signal.SIGUSR1)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *RESIDENT), 2) == 1


def test_signal_while_a_streamed_group_is_half_done(job, tmp_path):
    output = tmp_path / "out.h5"
    process = start_and_wait_for(job, output, 2, STREAMED, "checkpoint", 2)
    time.sleep(0.01)
    for pid in support.child_pids(process):
        os.kill(pid, signal.SIGTERM)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *RESIDENT), 3) == 1


def test_mpirun_passes_sigusr1_on(job, tmp_path):
    output = tmp_path / "out.h5"
    process = start_and_wait_for(job, output, 3, RESIDENT)
    process.send_signal(signal.SIGUSR1)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *RESIDENT), 3) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_mpirun_told_to_end_leaves_a_job_that_resumes(job, tmp_path, number):
    """mpirun takes a moment to pass it on: a job that was over by then must be whole, and another one is tried."""
    small_batches = ["--batch", "2"]
    for attempt in range(5):
        output = tmp_path / str(attempt) / "out.h5"
        output.parent.mkdir()
        process = start_and_wait_for(job, output, 3, small_batches)
        process.send_signal(number)
        code = interrupted_job.end_of(process, output.parent)
        if output.exists():
            assert support.payload(output) == job.expected
            continue
        assert code != 0
        assert job.finish(output, job.line(output, *small_batches), 3) == 1
        return
    pytest.fail("five jobs were over before mpirun's signal reached them")


def test_second_sigterm_does_not_disturb_the_stop(job, tmp_path):
    output = tmp_path / "out.h5"
    process = start_and_wait_for(job, output, None, RESIDENT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert_stops(process, output)
    assert job.finish(output, job.line(output, *RESIDENT)) == 1


def test_third_sigterm_ends_at_once_and_the_job_still_resumes(job, tmp_path):
    """The job is held by SIGSTOP until all three are on their way; signals of one number merge, so three numbers."""
    output = tmp_path / "out.h5"
    process = start_and_wait_for(job, output, None, RESIDENT)
    process.send_signal(signal.SIGSTOP)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    assert interrupted_job.end_of(process, tmp_path) in (128 + number for number in
                                                         (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT))
    assert job.finish(output, job.line(output, *RESIDENT)) == 1


def test_stop_is_soon(job, tmp_path):
    """One batch of the job takes milliseconds, so a stop must not take seconds."""
    output = tmp_path / "out.h5"
    process = start_and_wait_for(job, output, None, RESIDENT)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert_stops(process, output)
    assert time.monotonic() - began < 5


def test_finished_report_of_a_stopped_job_is_not_written(job, tmp_path):
    output = tmp_path / "out.h5"
    process = start_and_wait_for(job, output, None, RESIDENT)
    process.send_signal(signal.SIGTERM)
    assert_stops(process, output)
    assert not [path.name for path in tmp_path.iterdir() if "report" in path.name]
