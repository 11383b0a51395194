"""One search that is long enough to be interrupted, the answer it must give, and what an interruption may leave."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import time

import numpy as np
import pytest
import support

ROWS, DIM, QUERIES, K = 12000, 48, 1200, 7
# Little enough that the base streams through in groups, on three ranks and on two.
STREAMED = ["--memory", "1000KiB", "--batch", "100", "--checkpoint", "0"]
RESIDENT = ["--batch", "12"]
LITTER = (".journal", ".partial", ".lock", ".metadata", ".checkpoint.0", ".checkpoint.1", ".heartbeat.json", ".tmp")


@dataclasses.dataclass
class Job:
    """Inputs, the uninterrupted answer, and a folder for outputs."""

    folder: pathlib.Path
    expected: bytes
    library: pathlib.Path

    def line(self, output, *more):
        vectors = self.folder / "vectors.h5"
        return ["search", "--base", f"{vectors}:/train", "--queries", f"{vectors}:/test", "-k", K, "--threads", 1,
                "-o", output, *more]

    def finish(self, output, line, ranks=None):
        """Runs the line to its end and compares; returns how often the output was resumed."""
        result = support.run(line, np=ranks)
        assert result.code == 0, result
        self.check(output)
        resumes = int(support.attributes(output)["resumes"])
        assert f"resumed {resumes} time(s)" in result.stdout, result
        assert result.stderr.count(f"of {QUERIES} queries are answered") == (1 if resumes else 0), result
        return resumes

    def check(self, output):
        """The output is whole and right, and nothing of the work on it is left."""
        assert support.payload(output) == self.expected
        left = [path.name for path in output.parent.iterdir() if path.name.endswith(LITTER)]
        assert not left, left


def build_library(folder):
    """crash_points.c as a library to preload, by the C compiler of this machine."""
    library = folder / "crash_points.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library,
                        support.ROOT / "tests/e2e/crash_points.c", "-ldl"], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler: cc builds crash_points.c")
    return library


def make(folder):
    """The job with its reference, which is checked against the oracle."""
    random = np.random.default_rng(11)
    base = random.standard_normal((ROWS, DIM), dtype=np.float32)
    base[ROWS // 2:ROWS // 2 + 500] = base[:500]  # ties, so that the order of ids is part of the bytes
    queries = base[random.integers(0, ROWS, QUERIES)] + random.integers(0, 2, (QUERIES, DIM)).astype(np.float32) / 8
    support.write_h5(folder / "vectors.h5", train=base, test=queries)
    job = Job(folder, b"", build_library(folder))
    support.search(job.line(folder / "reference.h5")[1:])
    some = slice(0, QUERIES, 40)
    neighbors, distances = support.read_result(folder / "reference.h5")
    expected, gaps = support.oracle(base, queries[some], K)
    assert (neighbors[some] == expected).all() and np.allclose(distances[some], gaps, rtol=1e-6)
    job.expected = support.payload(folder / "reference.h5")
    return job


def groups_of(job, ranks, *more):
    """How many groups the base is cut into."""
    import json
    result = support.search([*job.line(job.folder / "none.h5", *more)[1:], "--dry-run", "--json"], np=ranks)
    return json.loads(result.stdout)["groups"]


def launch(line, ranks, env=None):
    return support.start(line, np=ranks, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True, errors="replace")


def hold_after(library, output, kind, count, **how):
    """The environment in which rank 0 holds after its `count`-th journal record of a kind."""
    return {"LD_PRELOAD": library, "CRASH_PREFIX": f"{output}.journal", "HOLD_TEXT": f'"type":"{kind}"',
            "HOLD_AT": count, **how}


def launch_held(library, line, output, ranks, kind="finished", count=3):
    """A running job whose rank 0 has stopped itself (SIGSTOP) right after its `count`-th journal record of a kind.

    Whatever a test does to it happens at that point, however quick the machine is; let_go ends the hold.
    """
    process = launch(line, ranks, hold_after(library, output, kind, count))
    reached = support.wait_until(lambda: held_rank(process, ranks), process)
    assert reached, f"over before {count} records '{kind}': {process.communicate()[1]}"
    return process


def held_rank(process, ranks):
    """The rank that has stopped itself; None while there is none."""
    pids = support.child_pids(process) if ranks else [process.pid]
    return next((pid for pid in pids if status_of(pid).get("State", "").startswith("T")), None)


def status_of(pid):
    """What Linux tells of a process; nothing if it is gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def let_go(process, ranks, pending=None):
    """Ends the hold, as soon as the signal `pending` has reached the held rank."""
    pid = held_rank(process, ranks)
    if pending is not None:
        assert support.wait_until(lambda: int(status_of(pid).get("ShdPnd", "0"), 16) >> (pending - 1) & 1, process)
    os.kill(pid, signal.SIGCONT)


def records(output, kind):
    """How many records of a kind the journal holds now."""
    try:
        return pathlib.Path(f"{output}.journal").read_bytes().count(f'"{kind}"'.encode())
    except FileNotFoundError:
        return 0


def kill_one_rank(process, ranks, random):
    """kill -9 for one rank of the running job; False if it was over already. The others must not survive it."""
    pids = support.child_pids(process) if ranks else [process.pid]
    if process.poll() is not None or not pids:
        return False
    try:
        os.kill(random.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def end_of(process, folder):
    """Waits for the end of a job that lost a rank: soon, and without orphans."""
    began = time.monotonic()
    try:
        code = process.wait(timeout=60)
    finally:
        support.kill_group(process)
    assert time.monotonic() - began < 60
    process.stderr.close()
    support.assert_no_orphans(folder)
    return code
