"""The server's HTTP port: health, metrics, and Milvus' REST API with the answers of the batch job."""

import concurrent.futures
import http.client
import json
import shutil
import socket
import ssl
import struct
import subprocess
import time

import numpy as np
import pytest
import served
import support

ROWS, DIM, K = 900, 12, 10
TOKEN = "a-token-of-the-test"


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    random = np.random.default_rng(5)
    base = random.normal(size=(ROWS, DIM)).astype(np.float32)
    base[7::7] = base[0:-7:7]
    queries = random.normal(size=(20, DIM)).astype(np.float32)
    folder = tmp_path_factory.mktemp("vectors")
    return base, queries, support.write_h5(folder / "data.h5", train=base, test=queries)


@pytest.fixture(scope="module")
def server(vectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with served.Server(folder, [f"points={vectors[2]}:/train"], more=["--http", "127.0.0.1:0"]) as server:
        yield server


def http_address(server):
    return server.discovery.read_text().splitlines()[1]


def ask(server, method, path, body=None, headers=None):
    """Status, headers and text of one exchange."""
    connection = http.client.HTTPConnection(http_address(server), timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def get(server, path):
    status, _, text = ask(server, "GET", path)
    return status, text


def post(server, route, headers=None, **body):
    status, _, text = ask(server, "POST", f"/v2/vectordb/{route}", json.dumps(body), headers)
    return status, json.loads(text)


def data(server, route, **body):
    status, answer = post(server, route, **body)
    assert status == 200 and answer["code"] == 0, answer
    return answer["data"]


def test_probes_and_pages(server):
    assert get(server, "/healthz") == (200, "OK")
    assert get(server, "/readyz")[0] == 200
    assert json.loads(get(server, "/version")[1])["name"] == "mpishards"
    shards = json.loads(get(server, "/shards")[1])["collections"]
    assert [entry["collection"] for entry in shards] == ["points"]
    assert sum(shard["rows"] for shard in shards[0]["shards"]) == ROWS
    assert [shard["rank"] for shard in shards[0]["shards"]] == [0, 1]


def test_collections(server):
    assert data(server, "collections/list") == ["points"]
    assert data(server, "collections/has", collectionName="points") == {"has": True}
    assert data(server, "collections/has", collectionName="others") == {"has": False}
    described = data(server, "collections/describe", collectionName="points")
    assert described["collectionName"] == "points" and described["load"] == "LoadStateLoaded"
    assert [(field["name"], field["type"], field["primaryKey"]) for field in described["fields"]] == [
        ("id", "Int64", True), ("vector", "FloatVector", False)]
    assert described["fields"][1]["params"] == [{"key": "dim", "value": str(DIM)}]
    assert described["indexes"][0]["metricType"] == "L2"
    assert data(server, "collections/get_stats", collectionName="points") == {"rowCount": ROWS}


def test_search_is_that_of_the_batch_job_to_the_bit(server, vectors, tmp_path):
    base, queries, file = vectors
    support.search(["--base", file, "--queries", file, "-k", K, "--metric", "l2", "-o", tmp_path / "r.h5", "-q"])
    neighbors, distances = support.read_result(tmp_path / "r.h5")
    status, answer = post(server, "entities/search", collectionName="points", data=queries.tolist(), limit=K)
    assert status == 200 and answer["topks"] == [K] * len(queries)
    assert [hit["id"] for hit in answer["data"]] == neighbors.ravel().tolist()
    found = np.array([hit["distance"] for hit in answer["data"]]).astype(np.float32)
    assert (found.view(np.int32) == distances.ravel().view(np.int32)).all()


def test_search_with_filter_offset_fields_and_range(server, vectors):
    base, queries, _ = vectors
    hits = data(server, "entities/search", collectionName="points", data=queries[:1].tolist(), limit=3, offset=2,
                filter="id >= 100 and id < {top}", exprParams={"top": 400}, outputFields=["vector"])
    neighbors, _ = support.oracle(base[100:400], queries[:1], 5)
    assert [hit["id"] for hit in hits] == (neighbors[0, 2:] + 100).tolist()
    for hit in hits:
        assert (np.array(hit["vector"], dtype=np.float32) == base[hit["id"]]).all()

    neighbors, distances = support.oracle(base, queries[:1], 50)
    radius = float(distances[0, 20])
    near = data(server, "entities/search", collectionName="points", data=queries[:1].tolist(), limit=50,
                searchParams={"metricType": "L2", "params": {"radius": radius}})
    assert [hit["id"] for hit in near] == neighbors[0, distances[0] < radius].tolist()


def test_rows_by_filter_and_by_id(server, vectors):
    base = vectors[0]
    rows = data(server, "entities/query", collectionName="points", filter="id in [5, 3, 4]")
    assert [row["id"] for row in rows] == [3, 4, 5]
    assert all((np.array(row["vector"], dtype=np.float32) == base[row["id"]]).all() for row in rows)
    assert data(server, "entities/get", collectionName="points", id=[8, "9", 10**12], outputFields=["id"]) == [
        {"id": 8}, {"id": 9}]
    assert data(server, "entities/get", collectionName="points", id=0, outputFields=["id"]) == [{"id": 0}]
    assert data(server, "entities/query", collectionName="points", filter="", outputFields=["count(*)"]) == [
        {"count(*)": ROWS}]
    assert len(data(server, "entities/query", collectionName="points", filter="id >= 0", outputFields=["id"])) == 100
    _, answer = post(server, "entities/get", headers={"Accept-Type-Allow-Int64": "false"}, collectionName="points", id=1,
                     outputFields=["id"])
    assert answer["data"] == [{"id": "1"}]


@pytest.mark.parametrize("route, body, code", [
    ("collections/describe", {"collectionName": "others"}, 100),
    ("collections/describe", {}, 1802),
    ("collections/describe", {"collectionName": 7}, 1100),
    ("collections/list", {"dbName": "others"}, 800),
    ("entities/search", {"collectionName": "points"}, 1802),
    ("entities/search", {"collectionName": "points", "data": [[1, 2]]}, 1100),
    ("entities/search", {"collectionName": "points", "data": [[1], [1, 2]]}, 1100),
    ("entities/search", {"collectionName": "points", "data": ["some text"]}, 1100),
    ("entities/search", {"collectionName": "points", "data": [[1e300] * DIM]}, 1100),
    ("entities/search", {"collectionName": "points", "data": [[0] * DIM], "limit": 0}, 1100),
    ("entities/search", {"collectionName": "points", "data": [[0] * DIM], "limit": "many"}, 1100),
    ("entities/search", {"collectionName": "points", "data": [[0] * DIM], "filter": "id =="}, 1100),
    ("entities/search", {"collectionName": "points", "data": [[0] * DIM], "filter": "color == 1"}, 1700),
    ("entities/search", {"collectionName": "points", "data": [[0] * DIM], "groupingField": "id"}, 1100),
    ("entities/search", {"collectionName": "points", "data": [[0] * DIM], "searchParams": {"metricType": "IP"}}, 1100),
    ("entities/search", {"collectionName": "points", "data": [[0] * DIM], "searchParams": [1]}, 1100),
    ("entities/search", {"collectionName": "points", "data": [[0] * DIM], "partitionNames": ["others"]}, 200),
    ("entities/query", {"collectionName": "points", "filter": "id > 0", "outputFields": ["others"]}, 1700),
    ("entities/get", {"collectionName": "points", "id": "x"}, 1100),
    ("entities/get", {"collectionName": "points"}, 1802),
    ("entities/insert", {"collectionName": "points", "data": []}, 3000),
    ("collections/drop", {"collectionName": "points"}, 3000),
])
def test_errors_have_milvus_numbers_and_one_sentence(server, route, body, code):
    status, answer = post(server, route, **body)
    assert (status, answer["code"]) == (200, code), answer
    assert answer["message"] and "\n" not in answer["message"] and len(answer["message"]) < 300


def exchange_raw(server, text, timeout=30):
    """The answer to raw bytes, and that the server ends the connection."""
    host, port = http_address(server).rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(text)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def status_of(reply):
    return int(reply.split(b" ", 2)[1])


SEARCH = b"POST /v2/vectordb/entities/search HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("request_text, status", [
    (b"\x00\x01\x02 garbage\r\n\r\n", 400),
    (b"GET / HTTP/9.9\r\n\r\n", 400),
    (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n", 414),
    (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    (b"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"GET /v2/vectordb/entities/search HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"GET /metrics HTTP/1.1\r\nHost: x\r\nRange: bytes=0-0,0-0,0-0\r\n\r\n", 416),
    (SEARCH + b"Content-Length: 1\r\nConnection: close\r\n\r\n{", 400),
    (SEARCH + b"\r\n{}", 411),
    (SEARCH + b"Content-Length: -5\r\n\r\n{}", 411),
    (SEARCH + b"Content-Length: 99999999999999999999999\r\n\r\n{}", 413),
    (SEARCH + b"Content-Length: 67108865\r\n\r\n{}", 413),
    (SEARCH + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (SEARCH + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 2\r\n\r\n{}", 415),
    (b"POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 404),
], ids=range(16))
def test_garbage_gets_a_clean_refusal(server, request_text, status):
    try:
        reply = exchange_raw(server, request_text)
    except ConnectionResetError:
        pytest.skip("the end came before the answer was read: bytes that nobody reads any more make it a hard one")
    assert status_of(reply) == status, reply[:300]
    if status == 416:
        return
    body = json.loads(reply.split(b"\r\n\r\n", 1)[1])
    assert body["code"] and body["message"]
    assert get(server, "/healthz")[0] == 200


def test_a_body_without_end_is_cut(server):
    host, port = http_address(server).rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(SEARCH + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        with pytest.raises(OSError):
            for _ in range(200):
                connection.sendall(chunk)
    assert get(server, "/healthz")[0] == 200


def test_heads_without_end_are_cut(server):
    host, port = http_address(server).rsplit(":", 1)
    before = metric(server, "process_resident_memory_bytes")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        with pytest.raises(OSError):
            connection.sendall(b"GET /metrics HTTP/1.1\r\n")
            for number in range(100_000):
                connection.sendall(b"x%d: " % number + b"y" * 1000 + b"\r\n")
    assert metric(server, "process_resident_memory_bytes") < before + (16 << 20)


def test_heads_that_drip_are_cut(server):
    host, port = http_address(server).rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 60:
                connection.sendall(b"x")
                time.sleep(0.5)
        assert 5 < time.monotonic() - began < 20


def test_deep_and_wide_bodies_are_refused(server):
    for text in ("[" * 1_000_000, '{"a":' * 100_000, '{"a":[' + "[]," * 2_000_000):
        status, _, reply = ask(server, "POST", "/v2/vectordb/entities/search", text)
        assert (status, json.loads(reply)["code"]) == (400, 1801)


def test_clients_that_vanish_leave_nothing_behind(server, vectors):
    host, port = http_address(server).rsplit(":", 1)
    body = json.dumps({"collectionName": "points", "data": vectors[1].tolist(), "limit": 500}).encode()
    before = metric(server, "process_open_fds")
    for cut in (0, 10, len(body) // 2, len(body)):
        for _ in range(5):
            connection = socket.create_connection((host, int(port)), timeout=10)
            connection.sendall(SEARCH + b"Content-Length: %d\r\n\r\n" % len(body) + body[:cut])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    support.wait_until(lambda: metric(server, "process_open_fds") <= before + 1, timeout=30, interval=0.1)
    assert metric(server, "mpishards_queued_requests") == 0


def test_a_client_that_hangs_up_cancels_its_search(tmp_path):
    """Ten thousand queries take seconds: the server notices within them that nobody waits."""
    random = np.random.default_rng(17)
    base = random.integers(0, 10, size=(100_000, 64)).astype(np.float32)
    log = tmp_path / "access.log"
    file = support.write_h5(tmp_path / "data.h5", train=base)
    body = json.dumps({"collectionName": "points", "data": base[:10_000].astype(int).tolist(), "limit": 10}).encode()
    with served.Server(tmp_path, [f"points={file}:/train"], more=["--http", "127.0.0.1:0", "--access-log", log]) as server:
        host, port = http_address(server).rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(SEARCH + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        support.wait_until(log.read_text, timeout=30, interval=0.1)
    line = json.loads(log.read_text())
    assert (line["status"], line["nq"]) == ("cancelled", 10_000)


def test_many_clients_get_their_own_answers(server, vectors):
    base, queries, _ = vectors
    neighbors, _ = support.oracle(base, queries, 5)

    def one(row):
        return [hit["id"] for hit in data(server, "entities/search", collectionName="points",
                                          data=[queries[row].tolist()], limit=5)]

    rows = [number % len(queries) for number in range(200)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, rows))
    assert answers == [neighbors[row].tolist() for row in rows]


def samples(server):
    """Sample to value, of the exposition text."""
    status, headers, text = ask(server, "GET", "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def metric(server, name):
    return samples(server)[name]


def test_metrics_count_what_was_asked(server, vectors):
    name = 'mpishards_queries_total{collection="points"}'
    data(server, "entities/search", collectionName="points", data=vectors[1].tolist(), limit=1)
    before = metric(server, name)
    data(server, "entities/search", collectionName="points", data=vectors[1].tolist(), limit=1)
    assert metric(server, name) == before + len(vectors[1])
    assert metric(server, "mpishards_ready") == 1
    assert metric(server, 'mpishards_collection_rows{collection="points"}') == ROWS


def test_a_trace_id_comes_back(server):
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    _, headers, _ = ask(server, "POST", "/v2/vectordb/collections/list", "{}", {"traceparent": parent})
    assert headers["X-Trace-Id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    _, headers, _ = ask(server, "POST", "/v2/vectordb/collections/list", "{}", {"traceparent": "nonsense"})
    assert len(headers["X-Trace-Id"]) == 32


def test_tokens_access_log_and_traces(vectors, tmp_path):
    tokens, log, traces = tmp_path / "tokens", tmp_path / "access.log", tmp_path / "traces.json"
    tokens.write_text(f"# who may ask\n{TOKEN}\nroot:secret\n")
    more = ["--http", "127.0.0.1:0", "--token-file", tokens, "--access-log", log, "--trace-file", traces,
            "--trace-ratio", "1"]
    with served.Server(tmp_path, [f"points={vectors[2]}:/train"], more=more) as server:
        assert get(server, "/healthz")[0] == 200 and get(server, "/readyz")[0] == 200
        for path in ("/metrics", "/shards", "/version"):
            assert get(server, path)[0] == 401
        for wrong in ({}, {"Authorization": "Bearer nobody"}, {"Authorization": f"Bearer {TOKEN}x"},
                      {"Authorization": TOKEN}, {"Authorization": "Bearer "}):
            status, answer = post(server, "collections/list", headers=wrong)
            assert (status, answer["code"]) == (401, 1800), wrong
        for right in (f"Bearer {TOKEN}", "Bearer root:secret", "Basic cm9vdDpzZWNyZXQ="):
            assert post(server, "collections/list", headers={"Authorization": right})[0] == 200
        assert post(server, "entities/search", headers={"Authorization": f"Bearer {TOKEN}"}, collectionName="points",
                    data=vectors[1].tolist(), limit=3, filter="id != 123456")[0] == 200
        assert post(server, "entities/search", headers={"Authorization": f"Bearer {TOKEN}"}, collectionName="points",
                    data=vectors[1].tolist())[0] == 200
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["status"] for line in lines] == ["unauthenticated"] * 5 + ["ok"] * 5
    assert (lines[-1]["method"], lines[-1]["nq"], lines[-1]["collection"]) == ("Search", len(vectors[1]), "points")
    assert "id !=" not in log.read_text() and TOKEN not in log.read_text()
    names = {event["name"] for event in json.loads(traces.read_text())}
    assert {"Search", "get_routing", "do_search", "do_merge"} <= names
    assert any(name.startswith("search_") for name in names)


def test_https(vectors, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert], check=True,
                   capture_output=True, timeout=60)
    more = ["--http", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key]
    with served.Server(tmp_path, [f"points={vectors[2]}:/train"], more=more) as server:
        trust = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection(http_address(server), timeout=30, context=trust)
        body = json.dumps({"collectionName": "points", "data": vectors[1].tolist(), "limit": 400})
        for _ in range(3):  # on one connection
            connection.request("POST", "/v2/vectordb/entities/search", body)
            assert len(json.loads(connection.getresponse().read())["data"]) == 400 * len(vectors[1])
        connection.close()
        with pytest.raises((OSError, http.client.HTTPException)):
            get(server, "/healthz")  # in clear text


def test_another_hosts_address_needs_a_token(vectors, tmp_path):
    result = support.run(["serve", "--collection", f"points={vectors[2]}:/train", "--listen", "127.0.0.1:0", "--http",
                          "0.0.0.0:0"])
    assert result.code == 64 and "--token-file" in result.stderr, result


def test_a_taken_port_is_said(server, vectors):
    result = support.run(["serve", "--collection", f"points={vectors[2]}:/train", "--listen", "127.0.0.1:0", "--http",
                          http_address(server)])
    assert result.code == 69 and http_address(server) in result.stderr, result


def test_a_server_that_ends_is_not_ready_and_answers_what_it_has(vectors, tmp_path):
    with served.Server(tmp_path, [f"points={vectors[2]}:/train"], more=["--http", "127.0.0.1:0"]) as server:
        address = http_address(server)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 20
        with pytest.raises(OSError):
            http.client.HTTPConnection(address, timeout=2).request("GET", "/healthz")
