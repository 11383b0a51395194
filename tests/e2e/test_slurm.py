"""The job scripts on a real Slurm: signal, requeue, resume; arrays and their merge. Skipped where none can run."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import slurm_cluster
import support

pytestmark = pytest.mark.skipif(bool(slurm_cluster.why_not()), reason=f"Slurm: {slurm_cluster.why_not()}")

SCRIPTS = support.ROOT / "slurm"
K = 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm_cluster.Cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with inputs and the answer of an uninterrupted run without Slurm."""
    folder = tmp_path_factory.mktemp("work")
    generator = np.random.default_rng(7)
    support.write_h5(folder / "data.h5", train=generator.standard_normal((10000, 64), dtype=np.float32),
                     test=generator.standard_normal((20000, 64), dtype=np.float32))
    support.search([*ARGUMENTS, "-o", "wanted.h5"], np=2, cwd=folder, timeout=300)
    return folder


# Small batches: many places where the job can stop, and a run long enough to be signalled.
ARGUMENTS = ["--base", "data.h5", "--queries", "data.h5", "-k", str(K), "--batch", "64"]


def submit(cluster, work, script, *arguments, options=()):
    environment = {"MPISHARDS_PROGRAM": support.PROGRAM}
    printed = cluster.client("sbatch", "--parsable", *options, str(SCRIPTS / script), *arguments, cwd=work,
                             environment=environment)
    return printed.strip()


def log_of(work, job_id):
    log = pathlib.Path(work) / f"mpishards-{job_id}.log"
    return log.read_text() if log.exists() else ""


def test_signal_requeues_the_job_and_it_ends_with_the_same_bytes(cluster, work):
    job_id = submit(cluster, work, "search.sbatch", *ARGUMENTS, "-o", "requeued.h5")
    journal = work / "requeued.h5.journal"
    cluster.wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 3, "the first batches", 60)
    cluster.client("scancel", "--signal=USR1", "--batch", job_id)
    record = cluster.wait_for_job(job_id, 180)
    log = log_of(work, job_id)
    assert record["JobState"] == "COMPLETED", log
    assert record["Restarts"] == "1", log
    assert f"requeue of job {job_id}" in log
    assert support.payload(work / "requeued.h5") == support.payload(work / "wanted.h5")
    assert int(support.attributes(work / "requeued.h5")["resumes"]) == 1
    assert not journal.exists()


def test_job_records_its_surroundings_beside_the_result(cluster, work):
    job_file = work / "job.toml"
    job_file.write_text('base = ["data.h5"]\nqueries = ["data.h5"]\nk = 3\nqueries-range = "0:5"\noutput = "recorded.h5"\n')
    secret = {"UNRELATED_TOKEN": "secret", "MPISHARDS_PROGRAM": support.PROGRAM}
    job_id = cluster.client("sbatch", "--parsable", "--nodes=1", str(SCRIPTS / "search.sbatch"), "--job", "job.toml",
                            cwd=work, environment=secret).strip()
    assert cluster.wait_for_job(job_id)["JobState"] == "COMPLETED", log_of(work, job_id)
    folder = work / "recorded.h5.slurm" / f"{job_id}.0"
    assert (folder / "job.toml").read_text() == job_file.read_text()
    assert "--job job.toml" in (folder / "command").read_text()
    assert "revision" in (folder / "revision.json").read_text()
    environment = (folder / "environment").read_text()
    assert f"SLURM_JOB_ID={job_id}" in environment and "secret" not in environment
    assert (folder / "modules").exists() and (folder / "slurm_job").exists()


def test_bad_input_fails_the_job_with_its_code_and_does_not_requeue(cluster, work):
    job_id = submit(cluster, work, "search.sbatch", "--base", "absent.h5", "--queries", "data.h5", "-o", "none.h5")
    record = cluster.wait_for_job(job_id)
    assert record["JobState"] == "FAILED" and record["ExitCode"] == "66:0", log_of(work, job_id)
    assert record["Restarts"] == "0"
    assert "absent.h5" in log_of(work, job_id)
    assert not (work / "none.h5").exists()


def test_array_and_merge_give_the_bytes_of_one_job(cluster, work):
    printed = cluster.client(str(SCRIPTS / "submit_array.sh"), "3", "joined.h5", *ARGUMENTS, cwd=work,
                             environment={"MPISHARDS_PROGRAM": support.PROGRAM})
    array_id, merge_id = printed.split()[1].rstrip(","), printed.split()[-1]
    journal = work / "joined.part-2-of-3.h5.journal"
    cluster.wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 3, "the last piece's first batches",
                     60)
    cluster.client("scancel", "--signal=USR1", "--batch", f"{array_id}_2")
    record = cluster.wait_for_job(merge_id, 180)
    logs = "\n".join(log.read_text() for log in work.glob("mpishards-*.log"))
    assert record["JobState"] == "COMPLETED", logs
    assert logs.count(f"requeue of job {array_id}_") == 1, logs
    assert support.payload(work / "joined.h5") == support.payload(work / "wanted.h5")


def test_signal_before_the_step_runs_is_not_lost(cluster, work, tmp_path):
    slow = tmp_path / "slow_version"
    slow.write_text(f'#!/bin/sh\n[ "$1" != version ] || [ -n "$SLURM_RESTART_COUNT" ] || sleep 5\nexec {support.PROGRAM} "$@"\n')
    slow.chmod(0o755)
    job_id = cluster.client("sbatch", "--parsable", str(SCRIPTS / "search.sbatch"), *ARGUMENTS, "--queries-range", "0:64",
                            "-o", "early.h5", cwd=work, environment={"MPISHARDS_PROGRAM": str(slow)}).strip()
    cluster.wait_for(lambda: (work / f"early.h5.slurm/{job_id}.0/revision.json").exists(), "the job's start", 60)
    cluster.client("scancel", "--signal=USR1", "--batch", job_id)
    record = cluster.wait_for_job(job_id, 120)
    assert record["JobState"] == "COMPLETED" and record["Restarts"] == "1", log_of(work, job_id)


@pytest.mark.parametrize("visible, local_rank, expected", [("0,1", 1, "1"), ("4,5", 2, "4"), ("GPU-a,GPU-b", 3, "GPU-b")])
def test_bind_gpu_deals_devices_by_local_rank(visible, local_rank, expected):
    printed = subprocess.run([str(SCRIPTS / "bind_gpu.sh"), sys.executable, "-c",
                              "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"], check=True, text=True,
                             capture_output=True, env=support.environment(
                                 {"CUDA_VISIBLE_DEVICES": visible, "SLURM_LOCALID": local_rank})).stdout
    assert printed.strip() == expected


def test_a_server_comes_back_after_a_rank_died_and_drains_on_request(cluster, work):
    job_id = submit(cluster, work, "serve.sbatch", "--collection", "points=data.h5", "--listen", "127.0.0.1:0")
    discovery = work / f"mpishards-{job_id}.addr"
    cluster.wait_for(discovery.exists, "the server", 60)
    first = discovery.read_text()
    ranks = [int(line.split(":")[0]) for line in support.processes_naming("points=data.h5")
             if "mpishards serve" in line and "srun" not in line]
    os.kill(max(ranks), signal.SIGKILL)
    cluster.wait_for(lambda: discovery.exists() and discovery.read_text() != first, "the server again", 60)
    ping = support.run(["ping", "--discovery-file", discovery], timeout=30)
    assert ping.code == 0, ping
    cluster.client("scancel", "--signal=TERM", "--batch", job_id)
    record = cluster.wait_for_job(job_id, 60)
    log = log_of(work, job_id)
    assert record["JobState"] == "COMPLETED" and not discovery.exists(), log
    assert "starting it again" in log and "asking for a drain" in log, log
