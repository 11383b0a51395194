"""FAISS files: searched as vectors, imported as an index with their lists, written of vectors and of an index."""

import json
import os

import faiss_files
import h5py
import interrupted_job
import list_oracle
import numpy as np
import pytest
import support

USAGE, DATA_ERROR, CANNOT_CREATE = 64, 65, 73
ROWS, DIM, LISTS, K = 1500, 6, 20, 8
QUIET = ("-q", "--report=false")


@pytest.fixture(scope="module")
def vectors():
    """Whole numbers, so that many distances are equal; ids in no order."""
    random = np.random.default_rng(12)
    return (random.integers(-6, 7, (ROWS, DIM)).astype(np.float32), random.permutation(ROWS) * 3 + 1,
            random.integers(-6, 7, (60, DIM)).astype(np.float32))


@pytest.fixture(scope="module")
def folder(vectors, tmp_path_factory):
    """Queries, and for both metrics of FAISS an inverted file and its import by three ranks."""
    folder = tmp_path_factory.mktemp("faiss")
    base, ids, queries = vectors
    support.write_h5(folder / "q.h5", test=queries)
    for metric in ("l2", "ip"):
        centroids = base[:LISTS] + np.float32(0.25)
        if metric == "ip":
            centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
        near = -((base[:, None] - centroids) ** 2).sum(axis=2) if metric == "l2" else base @ centroids.T
        nearest = near.argmax(axis=1)
        nearest[nearest == 7] = 8  # a list that is empty
        lists = [(base[nearest == l], ids[nearest == l]) for l in range(LISTS)]
        (folder / f"{metric}.faiss").write_bytes(faiss_files.ivf(centroids, lists, metric))
        result = support.run(["build", "--import", folder / f"{metric}.faiss", "-o", folder / metric, "-q"], np=3)
        assert result.code == 0, result
    return folder


def convert(*args):
    result = support.run(["convert", *args])
    assert result.code == 0, result
    return result


def manifest(index):
    return json.loads((index / "manifest.json").read_text())


def complaint(args, code, np=None):
    result = support.run(args, np=np)
    assert result.code == code, result
    assert len(support.complaints(result)) == 1, result
    return support.complaints(result)[0]


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_import_keeps_lists_and_its_search_is_exact_in_those_it_probes(folder, vectors, tmp_path, metric):
    queries = vectors[2].astype(np.float64)
    assert manifest(folder / metric)["metric"] == metric and manifest(folder / metric)["nlist"] == LISTS
    support.search(["--base", folder / metric, "--queries", folder / "q.h5", "-k", K, "--nprobe", 3, "-o",
                    tmp_path / "out.h5", *QUIET], np=2)
    centroids, rows, ids = list_oracle.rows_by_list(folder / metric)
    neighbors, distances = support.read_result(tmp_path / "out.h5")
    for q, query in enumerate(queries):
        probed = list_oracle.best(metric, list_oracle.scores(metric, query, centroids), np.arange(LISTS), 3)[0]
        wanted = list_oracle.best(metric, list_oracle.scores(metric, query, np.concatenate([rows[l] for l in probed])),
                                  np.concatenate([ids[l] for l in probed]), K)
        found = min(K, len(wanted[0]))
        assert (neighbors[q, :found] == wanted[0]).all() and (distances[q, :found] == wanted[1]).all(), q
        assert (neighbors[q, found:] == -1).all()


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_export_of_an_import_is_the_file_that_was_imported(folder, tmp_path, metric):
    result = convert(folder / metric, tmp_path / "back.faiss", "--json")
    assert (tmp_path / "back.faiss").read_bytes() == (folder / f"{metric}.faiss").read_bytes()
    assert json.loads(result.stdout)["lists"] == LISTS
    assert not [path for path in tmp_path.iterdir() if path.name != "back.faiss"]


def test_an_index_of_our_own_comes_back_from_its_export(vectors, tmp_path):
    base, ids, _ = vectors
    support.write_h5(tmp_path / "base.h5", train=base.astype(np.float16), ids=ids)
    for index, flags in (("ivf12", ["--shards", 3]), ("flat", [])):
        built, back = tmp_path / index, tmp_path / f"{index}.back"
        assert support.run(["build", "--base", tmp_path / "base.h5", "--index", index, *flags, "-o", built, "-q"]).code == 0
        convert(built, tmp_path / f"{index}.faiss")
        assert support.run(["build", "--import", tmp_path / f"{index}.faiss", "-o", back, "-q"]).code == 0
        assert (back / "lists.h5").read_bytes() == (built / "lists.h5").read_bytes()
        with h5py.File(back / "shard-00000.h5") as shard:
            rows, own = shard["train"][:], shard["ids"][:]
        parts = [h5py.File(path) for path in sorted(built.glob("shard-*.h5"))]
        assert (rows == np.concatenate([part["train"][:] for part in parts])).all()  # float16, widened
        assert (own == np.concatenate([part["ids"][:] for part in parts])).all()


def test_a_flat_file_is_searched_by_its_metric_with_its_ids(folder, vectors, tmp_path):
    base, ids, queries = vectors
    (tmp_path / "flat.index").write_bytes(faiss_files.id_map(base, ids, "ip"))
    out = tmp_path / "out.h5"
    support.search(["--base", tmp_path / "flat.index", "--queries", folder / "q.h5", "-k", K, "-o", out, *QUIET], np=2)
    order = np.argsort(ids)
    places, distances = support.oracle(base[order], queries, K, "ip")
    support.assert_same_bits(out, (ids[order][places], distances))
    assert support.attributes(out)["metric"] == "ip"
    support.search(["--base", folder / "ip.faiss", "--queries", folder / "q.h5", "-k", K, "-o", tmp_path / "lists.h5",
                    *QUIET])
    assert support.payload(tmp_path / "lists.h5") == support.payload(out)


def test_files_of_both_metrics_are_one_base_only_by_a_metric_that_is_named(folder, tmp_path):
    line = ["search", "--base", folder / "ip.faiss", "--base", folder / "l2.faiss", "--queries", folder / "q.h5", "-k", K,
            "-o", tmp_path / "out.h5", *QUIET]
    assert "l2.faiss compares by l2" in complaint(line, USAGE)
    assert support.run([*line, "--metric", "l2"]).code == 0


def test_convert_writes_what_faiss_would(vectors, tmp_path):
    base, ids, _ = vectors
    support.write_h5(tmp_path / "base.h5", train=base, ids=ids)
    np.save(tmp_path / "base.npy", base)
    convert(tmp_path / "base.h5", tmp_path / "map.index", "--metric", "ip")
    assert (tmp_path / "map.index").read_bytes() == faiss_files.id_map(base, ids, "ip")
    convert(tmp_path / "base.npy", tmp_path / "flat.faiss")
    assert (tmp_path / "flat.faiss").read_bytes() == faiss_files.flat(base, "l2")
    convert(tmp_path / "map.index", tmp_path / "some.index", "--rows", "10:30")
    assert (tmp_path / "some.index").read_bytes() == faiss_files.id_map(base[10:30], ids[10:30], "ip")


def test_cosine_becomes_the_inner_product_of_rows_of_length_1(folder, vectors, tmp_path):
    base, _, queries = vectors
    np.save(tmp_path / "base.npy", base)
    result = convert(tmp_path / "base.npy", tmp_path / "unit.index", "--metric", "cosine")
    assert "length 1" in result.stderr
    length = np.linalg.norm(base.astype(np.float64), axis=1, keepdims=True)
    unit = np.divide(base, length, out=np.zeros(base.shape), where=length > 0).astype(np.float32)
    assert (tmp_path / "unit.index").read_bytes() == faiss_files.flat(unit, "ip")

    index = tmp_path / "cosine"
    assert support.run(["build", "--import", folder / "ip.faiss", "--metric", "cosine", "-o", index, "-q"]).code == 0
    out = tmp_path / "out.h5"
    support.search(["--base", index, "--queries", folder / "q.h5", "-k", K, "--index", "flat", "-o", out, *QUIET])
    assert support.attributes(out)["metric"] == "cosine"
    result = convert(index, tmp_path / "cosine.faiss")
    assert "length 1" in result.stderr
    convert(tmp_path / "cosine.faiss", tmp_path / "rows.npy")
    assert np.allclose(np.linalg.norm(np.load(tmp_path / "rows.npy"), axis=1), 1, atol=1e-6)


def test_what_cannot_be_imported_is_refused_by_name(folder, vectors, tmp_path):
    base, ids, _ = vectors
    out = tmp_path / "index"

    def refusal(contents, code=DATA_ERROR, more=()):
        (tmp_path / "bad.index").write_bytes(contents)
        text = complaint(["build", "--import", tmp_path / "bad.index", "-o", out, *more], code)
        assert "bad.index" in text and not out.exists() and not (tmp_path / "index.partial").exists(), text
        return text

    whole = (folder / "l2.faiss").read_bytes()
    assert "IndexHNSWFlat" in refusal(b"IHNf" + whole[4:])
    assert "truncated" in refusal(whole[:-1])
    assert "no FAISS file" in refusal(b"\x89HDF" + whole[4:])
    twice = ids.copy()
    twice[900] = twice[3]
    text = refusal(faiss_files.id_map(base, twice, "l2"))
    assert f"same id, {ids[3]}" in text and "row 3 " in text and "row 900 " in text
    broken = base.copy()
    broken[77, 2] = np.nan
    assert "row 77" in refusal(faiss_files.id_map(broken, ids, "l2"))
    lists = [(base, ids), (base[:0], ids[:0])]
    assert "centroids by ip" in refusal(faiss_files.ivf(base[:2], lists, "l2", "ip"))
    negative = ids.copy()
    negative[5] = -4
    assert "-4 is negative" in refusal(faiss_files.ivf(base[:2], [(base, negative), lists[1]], "l2"))
    assert "leave --metric out" in refusal(whole, USAGE, ["--metric", "cosine"])
    import_line = ["build", "--import", folder / "l2.faiss", "-o", out]
    assert "--index" in complaint([*import_line, "--index", "ivf9"], USAGE)
    assert "--base" in complaint([*import_line, "--base", folder / "q.h5:test"], USAGE)
    assert ".faiss" in complaint(["build", "--import", folder / "q.h5", "-o", out], USAGE)


def test_what_cannot_be_exported_is_refused(folder, vectors, tmp_path):
    assert "FAISS" in complaint(["convert", folder / "l2", tmp_path / "out.h5"], USAGE)
    assert "--rows" in complaint(["convert", folder / "l2", tmp_path / "out.index", "--rows", "0:9"], USAGE)
    assert "--metric" in complaint(["convert", folder / "q.h5:test", tmp_path / "out.npy", "--metric", "ip"], USAGE)
    (tmp_path / "out.index").write_text("precious")
    assert "--overwrite" in complaint(["convert", folder / "l2", tmp_path / "out.index"], CANNOT_CREATE)
    assert (tmp_path / "out.index").read_text() == "precious"
    convert(folder / "l2", tmp_path / "out.index", "--overwrite")
    assert (tmp_path / "out.index").read_bytes() == (folder / "l2.faiss").read_bytes()


def test_a_damaged_index_is_not_exported(folder, tmp_path):
    convert(folder / "l2", tmp_path / "out.faiss")
    result = support.run(["build", "--import", tmp_path / "out.faiss", "-o", tmp_path / "index", "-q"])
    assert result.code == 0, result
    with h5py.File(tmp_path / "index/shard-00000.h5", "r+") as shard:
        shard["train"][3, 1] += 1
    text = complaint(["convert", tmp_path / "index", tmp_path / "new.faiss"], DATA_ERROR)
    assert "shard-00000.h5 is damaged" in text
    assert not (tmp_path / "new.faiss").exists() and not (tmp_path / "new.faiss.partial").exists()


def test_a_killed_import_goes_on(folder, tmp_path):
    output = tmp_path / "index"
    job = ["build", "--import", folder / "l2.faiss", "-o", output, "--batch", 300]
    process = interrupted_job.launch_held(interrupted_job.build_library(folder), job, output, 2, "step", 2)
    for pid in support.child_pids(process):
        os.kill(pid, 9)
    assert interrupted_job.end_of(process, tmp_path) != 0 and not output.exists()
    result = support.run(job, np=3)
    assert result.code == 0 and f"of {ROWS} rows are placed" in result.stderr, result
    for name in ("lists.h5", "shard-00000.h5"):
        assert (output / name).read_bytes() == (folder / "l2" / name).read_bytes()
    assert sorted(path.name for path in output.iterdir()) == ["lists.h5", "manifest.json", "shard-00000.h5"]
