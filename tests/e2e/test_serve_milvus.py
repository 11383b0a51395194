"""Unmodified Milvus clients against the server: their answers are those of the batch job, id for id and bit for bit."""

import milvus_clients
import numpy as np
import pytest
import served
import support

ROWS, DIM, QUERIES, K = 2000, 24, 7, 10
METRICS = {"L2": "l2", "IP": "ip", "COSINE": "cosine"}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A base with ties: every fifth row comes twice."""
    random = np.random.default_rng(11)
    base = random.normal(size=(ROWS, DIM)).astype(np.float32)
    base[1::5] = base[0::5]
    queries = random.normal(size=(QUERIES, DIM)).astype(np.float32)
    folder = tmp_path_factory.mktemp("vectors")
    queries.tofile(folder / "queries.f32")
    return folder, base, queries, support.write_h5(folder / "data.h5", train=base, test=queries)


@pytest.fixture(scope="module", params=["L2", "COSINE"])
def serving(request, vectors, tmp_path_factory):
    """A server with one metric, and the batch job's answer of 60 neighbors."""
    folder, base, queries, file = vectors
    metric = METRICS[request.param]
    output = tmp_path_factory.mktemp("batch") / "result.h5"
    support.search(["--base", file, "--queries", file, "-k", 60, "--metric", metric, "-o", output, "-q"], np=2)
    with served.Server(tmp_path_factory.mktemp("server"), [f"points={file}:/train"],
                       more=["--metric", metric]) as server:
        yield server, request.param, support.read_result(output)


def same(found, neighbors, distances):
    """Lists of [id, distance] are these rows, bit for bit."""
    assert [[hit[0] for hit in hits] for hits in found] == neighbors.tolist()
    values = np.array([[hit[1] for hit in hits] for hits in found])
    assert (values.astype(np.float32).view(np.int32) == distances.view(np.int32)).all()


@pytest.mark.parametrize("version", list(milvus_clients.PACKAGES))
def test_the_same_script_runs_with_every_version(version, serving, vectors):
    server, metric, (neighbors, distances) = serving
    folder, base, queries, _ = vectors
    found = milvus_clients.run(version, "same_script.py", server.address, collection="points", dim=DIM, k=K, metric=metric,
                               queries=str(folder / "queries.f32"))
    same(found["orm"], neighbors[:, :K], distances[:, :K])
    same(found["orm_offset"], neighbors[:, 3:K], distances[:, 3:K])
    same(found["client"], neighbors[:, :K], distances[:, :K])
    same([found["search_iterator"]], neighbors[:1], distances[:1])
    rounded = np.array([[hit[1] for hit in hits] for hits in found["orm_rounded"]])
    assert np.allclose(rounded, np.round(distances[:, :3].astype(np.float64), 2), atol=1e-6)

    allowed = np.setdiff1d(np.arange(10, ROWS), [11, 12])
    wanted, wanted_distances = support.oracle(base[allowed], queries, 5, METRICS[metric])
    assert [[hit[0] for hit in hits] for hits in found["client_filtered"]] == allowed[wanted].tolist()

    assert found["num_entities"] == found["count"] == ROWS
    assert found["orm_rows"] == [[row, base[row].tolist()] for row in (3, 4, 5)]
    assert found["client_rows"] == [[row, base[row].tolist()] for row in (2, 7)]
    assert found["client_page"] == [2, 3, 4, 5]
    assert found["query_iterator"] == list(range(200))
    assert "read-only" in found["write"]
