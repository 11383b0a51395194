"""The commands around a server: ping, query, and the supervisor that brings it back."""

import os
import pathlib
import signal
import subprocess
import time

import numpy as np
import pytest
import served
import support

ROWS, DIM, QUERIES, K = 900, 12, 60, 20


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    random = np.random.default_rng(3)
    base = random.integers(-4, 5, size=(ROWS, DIM)).astype(np.float32)
    queries = random.integers(-4, 5, size=(QUERIES, DIM)).astype(np.float32)
    return folder, support.write_h5(folder / "data.h5", train=base, test=queries)


@pytest.fixture(scope="module")
def server(vectors, tmp_path_factory):
    with served.Server(tmp_path_factory.mktemp("server"), [f"points={vectors[1]}"]) as server:
        yield server


def query(server, file, output, *more):
    return support.run(["query", "--address", server.address, "--collection", "points", "--queries", file, "-k", K,
                        "-o", output, *more], timeout=60)


def test_ping_says_whether_a_server_is_ready(server, tmp_path):
    for arguments in (["--address", server.address], ["--discovery-file", server.discovery]):
        result = support.run(["ping", *arguments], timeout=30)
        assert result.code == 0 and "is ready" in result.stdout, result
    for arguments in (["--address", "127.0.0.1:1"], ["--discovery-file", tmp_path / "none"]):
        result = support.run(["ping", *arguments, "--timeout", 3], timeout=30)
        assert result.code == 69 and len(support.complaints(result)) == 1, result


@pytest.mark.parametrize("suffix", ["h5", "npy"])
def test_query_writes_what_search_writes(suffix, vectors, server, tmp_path):
    folder, file = vectors
    batch = tmp_path / "batch.h5"
    support.search(["--base", file, "--queries", file, "-k", K, "-o", batch, "-q"], np=3)
    output = tmp_path / f"served.{suffix}"
    result = query(server, file, output)
    assert result.code == 0, result
    support.assert_same_bits(output, support.read_result(batch))
    again = query(server, file, output)
    assert again.code == 73 and "--overwrite" in again.stderr, again
    assert query(server, file, output, "--overwrite").code == 0


@pytest.mark.parametrize("arguments, code", [
    (["--collection", "nothing"], 64), (["-k", "0"], 64), (["--queries", "missing.h5"], 66), (["--address", "127.0.0.1:1"], 69),
])
def test_query_fails_with_the_exit_codes_of_all_commands(arguments, code, vectors, server, tmp_path):
    options = {"--collection": "points", "--queries": vectors[1], "-k": K, "--address": server.address, "--timeout": 3,
               "-o": tmp_path / "out.h5"}
    options[arguments[0]] = arguments[1]
    result = support.run(["query", *(word for pair in options.items() for word in pair)], timeout=60)
    assert result.code == code and len(support.complaints(result)) == 1, result
    assert not (tmp_path / "out.h5").exists() and not (tmp_path / "out.h5.partial").exists()


def ranks_under(process):
    """Process ids of the ranks: grandchildren of the supervisor."""
    class Child:
        def __init__(self, pid):
            self.pid = pid
    return sorted(pid for child in support.child_pids(process) for pid in support.child_pids(Child(child)))


def test_a_supervised_server_comes_back_after_a_rank_died(vectors, tmp_path):
    discovery, log = tmp_path / "server.addr", tmp_path / "server.log"
    with open(log, "w") as output:
        process = support.start(["serve", "--supervise", 2, "--collection", f"points={vectors[1]}", "--listen", "127.0.0.1:0",
                                 "--discovery-file", discovery], stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.STDOUT)
    try:
        assert support.wait_until(discovery.exists, process, 60, 0.02), log.read_text()
        first = discovery.read_text()
        os.kill(ranks_under(process)[1], signal.SIGKILL)
        began = time.monotonic()
        assert support.wait_until(lambda: not discovery.exists(), process, 15, 0.02), "the dead server's address stays"
        assert support.wait_until(lambda: discovery.exists() and discovery.read_text() != first, process, 20, 0.02), log.read_text()
        assert time.monotonic() - began < 20
        assert support.run(["ping", "--discovery-file", discovery], timeout=30).code == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0, log.read_text()
        assert not discovery.exists()
    finally:
        for pid in support.child_pids(process):
            os.killpg(pid, signal.SIGKILL)
        support.kill_group(process)
        process.wait()
    support.assert_no_orphans(tmp_path)


def test_the_supervisor_does_not_repeat_what_can_not_work(tmp_path):
    result = support.run(["serve", "--supervise", 2, "--collection", f"points={tmp_path}/none.h5", "--listen", "127.0.0.1:0"],
                         timeout=30)
    assert result.code == 66, result
    assert support.run(["serve", "--supervise", "--collection", "x=y"], timeout=30).code == 64
