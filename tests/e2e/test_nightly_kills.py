"""Nightly: a hundred kills of random ranks at random times, each job continuing what the last one left."""

import contextlib
import subprocess
import time

import crash_points
import interrupted_job
import pytest
import support
from interrupted_job import RESIDENT, STREAMED

KILLS = 100


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return interrupted_job.make(tmp_path_factory.mktemp("kills"))


def random_settings(dice):
    """Ranks, batch and memory; any of them may continue what another began."""
    more = dice.choice([RESIDENT, STREAMED, ["--batch", str(dice.randint(5, 400))],
                        ["--memory", f"{dice.randint(1100, 3000)}KiB", "--batch", str(dice.randint(20, 150))]])
    return dice.choice([None, 1, 2, 3, 4]), [*more, "--merge", dice.choice(["gather", "reduce", "halving", "two_level", "all_to_all"])]


def test_a_hundred_random_kills(job, tmp_path):
    dice = support.dice()
    output = tmp_path / "out.h5"
    kills = 0
    finished = 0
    while kills < KILLS:
        ranks, more = random_settings(dice)
        began = time.monotonic()
        process = interrupted_job.launch(job.line(output, *more), ranks)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=dice.uniform(0.05, 2.5))
        hit = interrupted_job.kill_one_rank(process, ranks, dice)
        code = interrupted_job.end_of(process, tmp_path)
        state = f"seed {support.SEED}, kill {kills}, {ranks} ranks, {more}, after {time.monotonic() - began:.2f} s"
        kills += hit
        if output.exists():
            assert support.payload(output) == job.expected, f"{state}: half a result has its final name"
            if code != 0:
                assert support.run(job.line(output, *more), np=ranks).code in (0, crash_points.CANNOT_CREATE), state
            finished += 1
            for path in tmp_path.glob("out*"):
                path.unlink()
        else:
            assert code != 0, state
    if not output.exists():
        job.finish(output, job.line(output, *RESIDENT), 2)
    print(f"seed {support.SEED}: {kills} kills, {finished} results on the way")
