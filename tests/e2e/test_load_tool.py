"""bench/serve: what it counts, what it finds wrong, and how it fails."""

import csv
import json
import os
import signal
import subprocess

import numpy as np
import pytest
import served
import soak
import support

ROWS, DIM, QUERIES, K = 500, 8, 40, 12
USAGE, DATA, UNAVAILABLE = 64, 65, 69


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A base with queries, and the batch job's answers."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(3)
    file = support.write_h5(folder / "data.h5", train=random.normal(size=(ROWS, DIM)).astype(np.float32),
                            test=random.normal(size=(QUERIES, DIM)).astype(np.float32))
    support.search(["--base", file, "--queries", file, "-k", K, "-o", folder / "result.h5", "-q"])
    return file, folder / "result.h5"


@pytest.fixture(scope="module")
def server(files, tmp_path_factory):
    with served.Server(tmp_path_factory.mktemp("server"), [f"points={files[0]}:/train"]) as server:
        yield server


def line_of(server, file, *more):
    return [str(part) for part in (soak.TOOL, "--discovery-file", server.discovery, "--collection", "points", "--queries", file,
                                   "--warm-up", 0, *more)]


def run(server, file, *more):
    return subprocess.run(line_of(server, file, *more), capture_output=True, text=True, timeout=120, check=False)


def test_each_client_asks_again_at_once(server, files, tmp_path):
    file, result = files
    samples = tmp_path / "samples.csv"
    done = run(server, file, "--clients", 5, "--nq", 3, "--requests", 200, "--seconds", 60, "--expect", result, "--json",
               "--samples", samples)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["answered"] == found["requests"] == 200, found
    assert (found["wrong"], found["unsent"], found["errors"]) == (0, 0, {})
    assert found["queries_per_second"] == pytest.approx(3 * found["requests_per_second"])
    assert found["requests_per_second"] == pytest.approx(200 / found["seconds"])
    latencies = sorted(1e3 * float(row["latency_s"]) for row in csv.DictReader(samples.open()))
    order = {"min": 1, "p50": 100, "p95": 190, "p99": 198, "p99.9": 200, "max": 200}
    for name, rank in order.items():
        assert found["latency_ms"][name] == pytest.approx(latencies[rank - 1], rel=1e-3), name


def test_a_rate_is_kept_and_latency_counts_from_when_a_request_was_due(server, files):
    done = run(server, files[0], "--rate", 100, "--clients", 4, "--seconds", 2, "--json")
    found = json.loads(done.stdout)
    assert found["requests"] + found["unsent"] == 200 and found["seconds"] < 10, found
    # One client, and a rate beyond what it can do: requests wait, and are seen to wait.
    found = json.loads(run(server, files[0], "--rate", 100_000, "--clients", 1, "--seconds", 1, "--json").stdout)
    assert found["unsent"] > 0 and found["latency_ms"]["p50"] > 50, found


def test_a_wrong_answer_is_found(server, files, tmp_path):
    file, result = files
    neighbors, distances = support.read_result(result)
    neighbors[7, 2] += 1
    np.save(tmp_path / "other.neighbors.npy", neighbors)
    np.save(tmp_path / "other.distances.npy", distances)
    done = run(server, file, "--requests", 2 * QUERIES, "--seconds", 60, "--expect", tmp_path / "other.npy")
    assert done.returncode == 1 and "wrong: 2 answers" in done.stdout, done


@pytest.mark.parametrize("more, code, words", [
    (["--collection", "nowhere"], USAGE, ["nowhere"]), (["--clients", 0], USAGE, ["--clients", "at least 1"]),
    (["--rate", "fast"], USAGE, ["--rate fast"]), (["--client", 3], USAGE, ["--clients"]),
    (["--nq", QUERIES + 1], DATA, [f"{QUERIES} rows", "--nq"])])
def test_bad_options_are_refused(server, files, more, code, words):
    done = run(server, files[0], *more)
    assert done.returncode == code and all(word in done.stderr for word in words), done
    assert done.stderr.count("\n") == 1, done


def test_no_server_is_said(files):
    line = [soak.TOOL, "--address", "127.0.0.1:1", "--collection", "points", "--queries", files[0], "--timeout", "3"]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == UNAVAILABLE and "127.0.0.1:1" in done.stderr, done


def test_a_server_that_dies_is_counted_not_waited_for(files, tmp_path):
    log = tmp_path / "access.log"
    server = served.Server(tmp_path, [f"points={files[0]}:/train"], np=None, more=["--access-log", log])
    try:
        server.wait()
        tool = subprocess.Popen(line_of(server, files[0], "--clients", 3, "--seconds", 6), stdout=subprocess.PIPE, text=True)
        support.wait_until(lambda: '"Search"' in log.read_text(), tool)
        os.kill(server.process.pid, signal.SIGKILL)
        text = tool.communicate(timeout=60)[0]
        assert tool.returncode == 1 and "failed: " in text and "gRPC 14" in text, text
    finally:
        support.kill_group(server.process)
        server.process.wait()
