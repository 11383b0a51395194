"""The acceptance list of the Milvus protocol against a running server, one test a point."""

import re

import milvus_clients
import numpy as np
import pytest
import served
import support

ROWS, DIM, QUERIES = 2000, 24, 6
POINTS = sorted(re.findall(r"^def (point_\w+)", (milvus_clients.SCRIPTS / "wire_checklist.py").read_text(), re.M))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wire")
    random = np.random.default_rng(5)
    base = random.normal(size=(ROWS, DIM)).astype(np.float32)
    base[7::7] = base[0:-7:7]
    queries = random.normal(size=(QUERIES, DIM)).astype(np.float32)
    base.tofile(folder / "base.f32")
    queries.tofile(folder / "queries.f32")
    file = support.write_h5(folder / "data.h5", train=base)
    with served.Server(folder, [f"points={file}"], np=3) as server:
        yield milvus_clients.run("newest", "wire_checklist.py", server.address, collection="points", rows=ROWS, dim=DIM,
                                 base=str(folder / "base.f32"), queries=str(folder / "queries.f32"))


def test_the_list_has_all_its_points():
    assert [name[:8] for name in POINTS] == [f"point_{number:02}" for number in range(1, 24)]


@pytest.mark.parametrize("point", POINTS)
def test_point(point, results):
    assert results[point] == "ok", results[point]
