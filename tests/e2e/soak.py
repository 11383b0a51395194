"""A server under mixed load: no wrong answer, no growth of memory, no descriptor left open."""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import time

import milvus_clients
import numpy as np
import pytest
import served
import support

ROWS, DIM, QUERIES, K = 60_000, 784, 512, 50  # as many as in Fashion-MNIST
REHEARSAL_SECONDS = 30
QUIET_SECONDS = 5  # idle HTTP connections are closed after 2
MOST_DRIFT = 0.01
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SEARCH = b"POST /v2/vectordb/entities/search HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
TOOL = pathlib.Path(os.environ.get("MPISHARDS_LOAD_TOOL", pathlib.Path(support.PROGRAM).parent / "bench/serve"))


class Soak:
    def __init__(self, folder, server, base, queries, result):
        self.folder, self.server, self.base, self.queries, self.result = folder, server, base, queries, result
        self.http = server.discovery.read_text().splitlines()[1]
        self.dice = random.Random(29)
        self.rest_requests = self.garbage = self.vanished = 0

    # --- the kinds of load

    def tool(self, seconds, *more):
        """bench/serve, which compares every answer with the batch job's."""
        line = [TOOL, "--discovery-file", self.server.discovery, "--collection", "points", "--queries", f"{self.folder}/data.h5",
                "--expect", self.result, "--seconds", seconds, "--warm-up", 0, "--timeout", 60, "--json", *more]
        return subprocess.Popen([str(part) for part in line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def mixed(self, seconds):
        facts = {"collection": "points", "base": f"{self.folder}/base.npy", "queries": f"{self.folder}/queries.npy",
                 "seconds": seconds, "rate": 6}
        return subprocess.Popen([milvus_clients.python("newest"), milvus_clients.SCRIPTS / "soak.py", self.server.address,
                                 json.dumps(facts)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def rest(self, row, limit):
        """One search over HTTP, on a connection of its own."""
        connection = http.client.HTTPConnection(self.http, timeout=60)
        body = {"collectionName": "points", "data": [self.queries[row].tolist()], "limit": limit}
        connection.request("POST", "/v2/vectordb/entities/search", json.dumps(body))
        hits = json.loads(connection.getresponse().read())["data"]
        connection.close()
        neighbors, distances = self.result_rows
        assert [hit["id"] for hit in hits] == neighbors[row, :limit].tolist()
        assert [hit["distance"] for hit in hits] == distances[row, :limit].tolist()
        self.rest_requests += 1

    def send_garbage(self):
        """Bytes that are no request, to either port."""
        noise = self.dice.randbytes(self.dice.choice([10, 300, 5000]))
        address, head = self.dice.choice([(self.server.address, b""), (self.server.address, PREFACE), (self.http, b""),
                                          (self.http, SEARCH % len(noise))])
        self.garbage += 1
        with self.connected(address) as connection, contextlib.suppress(OSError):
            connection.settimeout(0.2)
            connection.sendall(head + noise)
            assert b'"code":0' not in connection.recv(4096)

    def vanish(self):
        """A client that sends its search, or a part of it, and is gone."""
        body = json.dumps({"collectionName": "points", "data": self.queries.tolist(), "limit": 50}).encode()
        self.vanished += 1
        with self.connected(self.http) as connection, contextlib.suppress(OSError):
            connection.sendall(SEARCH % len(body) + body[:self.dice.choice([0, 100, len(body)])])
            if self.dice.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def be_killed(self):
        """Four connections with large requests at work, whose process is killed."""
        tool = self.tool(60, "--clients", 4, "--nq", QUERIES, "--k", K)
        time.sleep(0.4)
        tool.send_signal(signal.SIGKILL)
        tool.communicate()
        self.vanished += 4

    @staticmethod
    def connected(address):
        host, port = address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=10)

    # --- all of it

    def disturb(self, until):
        turn = 0
        while time.monotonic() < until:
            begin = time.monotonic()
            self.rest(self.dice.randrange(QUERIES), 10)
            self.send_garbage()
            if turn % 4 == 0:
                self.vanish()
            if turn % 40 == 20:
                self.be_killed()
            turn += 1
            time.sleep(max(0, begin + 0.25 - time.monotonic()))

    def run(self, seconds):
        """All kinds at once. @return what was asked, by kind"""
        self.result_rows = support.read_result(self.result)
        mixed = self.mixed(seconds)
        tools = [self.tool(seconds, "--rate", 50, "--clients", 16, "--k", 10),
                 self.tool(seconds, "--rate", 0.5, "--clients", 2, "--nq", 64, "--k", K)]
        try:
            self.disturb(time.monotonic() + seconds)
            texts = [process.communicate(timeout=180)[0] for process in (mixed, *tools)]
            self.rest(0, K)  # the engine keeps the sample of its last search: it shall be the same whenever it is weighed
        finally:
            for process in (mixed, *tools):
                process.kill()
        assert mixed.returncode == 0, texts[0]
        found = json.loads(texts[0].splitlines()[-1])
        assert found["wrong"] == [], found["wrong"]
        for tool, text in zip(tools, texts[1:]):
            assert tool.returncode == 0, text
        answered = sum(json.loads(text)["answered"] for text in texts[1:])
        return {"checked": answered + found["requests"] + self.rest_requests,
                "garbage": found["garbage"] + self.garbage, "vanished": found["given_up"] + self.vanished}


@dataclasses.dataclass
class Holdings:
    """What a process holds."""

    resident_bytes: int
    descriptors: int


def at_rest(pids):
    """What each holds when nobody has asked for a while."""
    time.sleep(QUIET_SECONDS)
    pages = [int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return [Holdings(count * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))) for count, pid in zip(pages, pids)]


def soak(folder, seconds):
    if not TOOL.exists():
        pytest.skip(f"no load tool at {TOOL}: build bench_serve")
    dice = np.random.default_rng(31)
    base = dice.integers(0, 10, size=(ROWS, DIM), dtype=np.uint8).astype(np.float32)
    base[3::7] = base[2::7][:len(base[3::7])]
    queries = dice.integers(0, 10, size=(QUERIES, DIM), dtype=np.uint8).astype(np.float32)
    np.save(folder / "base.npy", base)
    np.save(folder / "queries.npy", queries)
    file = support.write_h5(folder / "data.h5", train=base, test=queries)
    support.search(["--base", file, "--queries", file, "-k", K, "-o", folder / "result.h5", "-q"])
    with served.Server(folder, [f"points={file}:/train"], more=["--http", "127.0.0.1:0"]) as server:
        ranks = server.ranks()
        load = Soak(folder, server, base, queries, folder / "result.h5")
        load.run(REHEARSAL_SECONDS)  # threads, caches and connections that any load brings
        before = at_rest(ranks)
        asked = load.run(seconds)
        after = at_rest(ranks)
        print(f"{asked}, at rest before {before}, after {after}")
        assert asked["garbage"] >= 0.01 * asked["checked"], asked
        for early, late in zip(before, after):
            assert late.resident_bytes < (1 + MOST_DRIFT) * early.resident_bytes, (before, after)
            assert late.descriptors <= early.descriptors + 2, (before, after)
    assert "internal error" not in server.text()
