"""The life of a server: ready, reloaded, drained, refused, secured, restarted."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import milvus_clients
import numpy as np
import pytest
import served
import support

ROWS, DIM = 400, 8


def base_of(seed):
    return np.random.default_rng(seed).normal(size=(ROWS, DIM)).astype(np.float32)


@pytest.fixture
def file(tmp_path):
    return support.write_h5(tmp_path / "data.h5", train=base_of(1))


def ask(address, script, **facts):
    return milvus_clients.run("newest", script, address, **facts)


def refused(arguments, np=2):
    result = support.run(["serve", *arguments], np=np, timeout=60)
    assert result.code != 0, result
    return result


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_ends_the_server_with_exit_code_0(number, file, tmp_path):
    with served.Server(tmp_path, [f"points={file}"], np=None) as server:
        os.kill(server.process.pid, number)
        assert server.process.wait(timeout=30) == 0, server.text()
        assert not server.discovery.exists()
        assert "all accepted requests are answered" in server.text()


def test_a_signal_to_any_rank_ends_all(file, tmp_path):
    with served.Server(tmp_path, [f"points={file}"], np=3) as server:
        os.kill(server.ranks()[-1], signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0, server.text()


def test_a_drain_answers_what_was_accepted(file, tmp_path):
    with served.Server(tmp_path, [f"points={file}"]) as server:
        found = ask(server.address, "load.py", collection="points", dim=DIM, seconds=4, threads=4,
                    stop_pid=server.process.pid, stop_after=1.0)
        assert server.process.wait(timeout=30) == 0, server.text()
        assert found["wrong"] == 0 and found["answered"] > 20, found
        assert set(found["errors"]) <= {"not ready", "connection"}, found


def test_a_reload_under_load_fails_no_request_and_shows_the_new_rows(tmp_path):
    path = support.write_h5(tmp_path / "data.h5", train=base_of(1))
    with served.Server(tmp_path, [f"points={path}"]) as server:
        other = support.write_h5(tmp_path / "other.h5", train=base_of(2))
        os.replace(other, path)
        os.kill(server.process.pid, signal.SIGUSR2)
        found = ask(server.address, "load.py", collection="points", dim=DIM, seconds=3, threads=4,
                    reload_pid=server.process.pid)
        assert found["errors"] == {} and found["answered"] > 50, found
        assert "generation 2" in server.text()
        row = ask(server.address, "load.py", collection="points", dim=DIM, row=5)["row"]
        assert row == base_of(2)[5].tolist()


def test_a_file_that_is_gone_leaves_the_old_rows_in_service(file, tmp_path):
    with served.Server(tmp_path, [f"points={file}"]) as server:
        file.unlink()
        os.kill(server.process.pid, signal.SIGUSR2)
        assert support.wait_until(lambda: "could not be loaded" in server.text(), server.process, 20, 0.05)
        assert ask(server.address, "load.py", collection="points", dim=DIM, row=5)["row"] == base_of(1)[5].tolist()


def test_release_and_load_by_a_client(file, tmp_path):
    with served.Server(tmp_path, [f"points={file}"]) as server:
        found = ask(server.address, "load.py", collection="points", dim=DIM, release=True)
        assert found["released"] == "NotLoad" and "not loaded" in found["error"] and found["again"] == 3, found


def test_a_dead_rank_ends_the_job_with_its_cause_in_the_log(file, tmp_path):
    with served.Server(tmp_path, [f"points={file}"], np=3) as server:
        began = time.monotonic()
        os.kill(server.ranks()[1], signal.SIGKILL)
        assert server.process.wait(timeout=10) != 0
        assert time.monotonic() - began < 10
        assert re.search(r"rank 1 .*signal 9", server.text(), re.S), server.text()


def test_a_taken_port_is_said(file, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = refused(["--collection", f"points={file}", "--listen", f"127.0.0.1:{port}"])
        assert result.code == 69 and str(port) in support.complaints(result)[0], result


def test_another_address_than_loopback_needs_a_token(file):
    result = refused(["--collection", f"points={file}", "--listen", "0.0.0.0:0"])
    assert result.code == 64 and "--token-file" in support.complaints(result)[0], result


@pytest.mark.parametrize("arguments, code, words", [
    ([], 64, "--collection"),
    (["--collection", "nothing"], 64, "NAME=FILE"),
    (["--collection", "9x=a.h5"], 64, "name"),
    (["--collection", "x=missing.h5"], 66, "missing.h5"),
    (["--collection", "x=missing.h5", "--max-message", "3GiB"], 64, "max-message"),
    (["--collection", "x=missing.h5", "--tls-cert", "a.pem"], 64, "--tls-key"),
])
def test_bad_options_are_refused_in_one_line(arguments, code, words, tmp_path):
    result = support.run(["serve", "--listen", "127.0.0.1:0", *arguments], np=2, cwd=tmp_path)
    assert result.code == code and len(support.complaints(result)) == 1, result
    assert words in support.complaints(result)[0], result


def test_tokens_are_asked_for_and_checked(file, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("# who may ask\nroot:Milvus\nsecret-token\n")
    with served.Server(tmp_path, [f"points={file}"], more=["--token-file", tokens]) as server:
        found = ask(server.address, "access.py", collection="points", dim=DIM,
                    tokens=["root:Milvus", "secret-token", "root:wrong", "secret-toke", ""])
        assert found["admitted"] == [True, True, False, False, False], found


def test_tls(file, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                   check=True, capture_output=True)
    with served.Server(tmp_path, [f"points={file}"], more=["--tls-cert", certificate, "--tls-key", key]) as server:
        found = ask(server.address, "access.py", collection="points", dim=DIM, tokens=[""], certificate=str(certificate))
        assert found["admitted"] == [True], found


def test_a_full_queue_answers_resource_exhausted_and_the_server_lives_on(file, tmp_path):
    with served.Server(tmp_path, [f"points={file}"], more=["--queue-memory", "100kB"]) as server:
        found = ask(server.address, "limits.py", collection="points", dim=DIM)
        assert found == {"huge": 3, "after": 0}, found


def test_a_request_of_100000_queries_is_answered_or_dropped_at_its_deadline_and_k_reaches_all_rows(file, tmp_path):
    log = tmp_path / "access.log"
    with served.Server(tmp_path, [f"points={file}"], more=["--access-log", log]) as server:
        found = ask(server.address, "limits.py", collection="points", dim=DIM, many=100000, rows=ROWS)
        assert found == {"many": 0, "late": "DEADLINE_EXCEEDED", "all": 0}, found
    states = {(line["nq"], line["status"]) for line in map(json.loads, log.read_text().splitlines()) if line["nq"]}
    assert (100000, "ok") in states and (2, "ok") in states, states
    assert states & {(100000, "timeout"), (100000, "cancelled")}, states


def test_a_unix_socket(file, tmp_path):
    with served.Server(tmp_path, [f"points={file}"], np=None, more=["--listen", f"unix:{tmp_path}/s"]) as server:
        assert server.address == f"unix:{tmp_path}/s"
        assert ask(server.address, "limits.py", collection="points", dim=DIM)["after"] == 0
