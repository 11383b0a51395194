"""Indexes that FAISS builds of each shard: the same files and answers for any ranks, recall against numpy, refusals."""

import json
import os
import shutil

import h5py
import interrupted_job
import numpy as np
import pytest
import support

USAGE, DATA, MISSING, UNAVAILABLE, CONFIG = 64, 65, 66, 69, 78
ROWS, QUERIES, DIM, K, SHARDS = 3000, 60, 24, 5, 5
GRAPH, LISTS = "HNSW16", "IVF16,PQ8x4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clusters away from the origin, with ids that are not row numbers; indexes of both kinds."""
    folder = tmp_path_factory.mktemp("faiss")
    random = np.random.default_rng(5)
    centres = random.normal(size=(60, DIM)) + 1
    base = (centres[random.integers(0, 60, ROWS)] + random.normal(size=(ROWS, DIM))).astype(np.float32)
    queries = (centres[random.integers(0, 60, QUERIES)] + random.normal(size=(QUERIES, DIM))).astype(np.float32)
    support.write_h5(folder / "base.h5", train=base, test=queries, ids=np.arange(ROWS, dtype=np.int64)[::-1] * 3 + 5)
    for metric, factory in [("l2", GRAPH), ("ip", GRAPH), ("cosine", GRAPH), ("l2", LISTS), ("cosine", LISTS)]:
        build(folder, index_of(folder, metric, factory), metric, factory)
    return folder


def index_of(folder, metric, factory):
    return folder / f"{metric}-{factory}"


def build_line(folder, output, metric, factory, *more):
    return ["build", "--base", folder / "base.h5", "--index", f"faiss:{factory}", "--metric", metric, "--shards", SHARDS,
            "--threads", 1, "-o", output, "-q", *more]


def build(folder, output, metric, factory, *more, np=1):
    built = support.run(build_line(folder, output, metric, factory, *more), np=np)
    assert built.code == 0, built
    assert "WARNING" not in built.stderr, "FAISS speaks"


def files_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "manifest.json"}


def line(folder, metric, factory, output, *more):
    return ["--base", index_of(folder, metric, factory), "--queries", folder / "base.h5", "-k", K, "--threads", 1, "-o",
            output, *more]


def exact(metric, query, rows):
    """float64; smaller is nearer with l2, larger with the others."""
    if metric == "l2":
        return ((rows - query) ** 2).sum(axis=1)
    products = rows @ query
    return products if metric == "ip" else products / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


def judged(folder, metric, path):
    """Share of the true neighbors that were found; every distance and the order are checked."""
    with h5py.File(folder / "base.h5") as file:
        rows, queries, ids = file["train"][:].astype(np.float64), file["test"][:].astype(np.float64), file["ids"][:]
    place_of = {row: place for place, row in enumerate(ids)}
    met = []
    for query, found, distances in zip(queries, *support.read_result(path)):
        values = exact(metric, query, rows)
        np.testing.assert_allclose(distances, [values[place_of[row]] for row in found], rtol=3e-6)
        assert (np.diff(distances) >= 0).all() if metric == "l2" else (np.diff(distances) <= 0).all()
        nearest = ids[np.argsort(values if metric == "l2" else -values)[:K]]
        met.append(len(set(found) & set(nearest)))
    return sum(met) / (K * len(met))


@pytest.mark.parametrize("metric, factory, more, bound", [
    ("l2", GRAPH, ["--ef-search", 64], 0.97), ("ip", GRAPH, ["--ef-search", 64], 0.9),
    ("cosine", GRAPH, ["--ef-search", 64], 0.97), ("l2", LISTS, ["--nprobe", 16, "--rerank", 20], 0.95),
    ("cosine", LISTS, ["--nprobe", 16, "--rerank", 20], 0.9)])
def test_what_faiss_names_is_ranked_by_its_rows(folder, tmp_path, metric, factory, more, bound):
    result = support.search(line(folder, metric, factory, tmp_path / "out.h5", *more))
    assert "ranked by the rows on disk" in result.stdout and result.stdout.endswith("RESULT OK\n")
    assert judged(folder, metric, tmp_path / "out.h5") >= bound


@pytest.mark.parametrize("factory, ranks", [(GRAPH, 7), (GRAPH, 2), (LISTS, 3)])
def test_the_same_files_for_any_ranks(folder, tmp_path, factory, ranks):
    build(folder, tmp_path / "out", "l2", factory, "--threads", 2, np=ranks)
    assert files_of(tmp_path / "out") == files_of(index_of(folder, "l2", factory))


@pytest.mark.parametrize("factory, parameter, others", [
    (GRAPH, "--ef-search", [(7, ["--merge", "gather"]), (2, [])]),
    (LISTS, "--nprobe", [(3, ["--threads", 2]), (4, ["--batch", 17])])])
def test_the_same_answers_for_any_ranks(folder, tmp_path, factory, parameter, others):
    common = [parameter, 2, "--rerank", 1, "--recall-queries", 0]  # so that what FAISS names is what is written
    support.search(line(folder, "l2", factory, tmp_path / "one.h5", *common))
    assert judged(folder, "l2", tmp_path / "one.h5") < 1, "so exact that nothing could differ"
    for ranks, more in others:
        support.search(line(folder, "l2", factory, tmp_path / f"{ranks}.h5", *common, *more), np=ranks)
        assert support.payload(tmp_path / f"{ranks}.h5") == support.payload(tmp_path / "one.h5"), ranks


@pytest.mark.parametrize("factory, parameter", [(GRAPH, "ef-search"), (LISTS, "nprobe")])
def test_a_wanted_recall_is_reached_and_measured(folder, tmp_path, factory, parameter):
    result = support.search(line(folder, "l2", factory, tmp_path / "out.h5", "--recall", 0.9, "--json"), np=2)
    told = json.loads(result.stdout)["faiss"]
    assert told["factory"] == factory and told["shards"] == SHARDS and told[parameter] >= 1
    met = judged(folder, "l2", tmp_path / "out.h5")
    assert told["recall"]["low"] <= met <= told["recall"]["high"] + 1e-9 and met >= 0.85
    assert support.attributes(tmp_path / "out.h5")["faiss"] == factory
    judgement = support.run(["eval", tmp_path / "out.h5", "--oracle", 0, "--json"])
    assert judgement.code == 0 and abs(json.loads(judgement.stdout)["recall"] - met) < 0.01, judgement


@pytest.mark.parametrize("factory, count", [(GRAPH, 8), (LISTS, 1)])
def test_killed_while_it_is_built_the_same_line_goes_on(folder, tmp_path, factory, count):
    job = build_line(folder, tmp_path / "out", "l2", factory, "--batch", 700)
    # What is trained is recorded first, then 5 blocks of placing, then shards.
    process = interrupted_job.launch_held(interrupted_job.build_library(tmp_path), job, tmp_path / "out", None, "step",
                                          count)
    process.kill()
    interrupted_job.end_of(process, tmp_path)
    assert (tmp_path / "out.journal").exists()
    result = support.run(job, np=2)
    assert result.code == 0, result
    assert files_of(tmp_path / "out") == files_of(index_of(folder, "l2", factory))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["facts"]["resumes"] == 1


def refused(folder, tmp_path, *more, np=None):
    result = support.run(["search", "--base", tmp_path / "index", "--queries", folder / "base.h5", "-k", K, "-o",
                          tmp_path / "out.h5", *more], np=np)
    assert not os.path.exists(tmp_path / "out.h5")
    return result


def test_damage_is_refused_by_the_name_of_the_file(folder, tmp_path):
    shutil.copytree(index_of(folder, "l2", GRAPH), tmp_path / "index")
    path = tmp_path / "index" / "shard-00003.faiss"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 4
    path.write_bytes(whole)
    result = refused(folder, tmp_path, "--ef-search", 20, "--recall-queries", 0, np=2)
    assert result.code == DATA and "shard-00003.faiss" in support.complaints(result)[0], result
    path.write_bytes(whole[:-1])
    result = refused(folder, tmp_path)
    assert result.code == DATA and "shard-00003.faiss" in support.complaints(result)[0], result
    path.unlink()
    result = refused(folder, tmp_path)
    assert result.code == MISSING and "shard-00003.faiss" in support.complaints(result)[0], result


def test_indexes_that_do_not_fit_into_memory_are_refused_with_the_numbers(folder, tmp_path):
    result = support.run(["search", *line(folder, "l2", GRAPH, tmp_path / "out.h5", "--memory", "300KiB")])
    assert result.code == CONFIG and "indexes of FAISS" in support.complaints(result)[0], result
    assert not list(tmp_path.iterdir())


# With and without a CUDA engine in the build.
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["search", "dry run"])
@pytest.mark.parametrize("factory, ranks", [(GRAPH, None), (LISTS, 2)])
def test_another_engine_is_refused(folder, tmp_path, factory, ranks, more):
    result = support.run(["search", *line(folder, "l2", factory, tmp_path / "out.h5", "--engine", "cuda", *more)], np=ranks)
    assert result.code == UNAVAILABLE and len(support.complaints(result)) == 1, result
    for word in ("FAISS", "cuda", "--engine cpu"):
        assert word in support.complaints(result)[0], result
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("factory, says", [
    ("", "faiss:HNSW32"), ("bogus", "'bogus'"), ("IVF16,PQ7", "PQ7"), ("IDMap,Flat", "IDMap"), ("BIVF16", "'BIVF16'"),
    ("Flat;rm", "'Flat;rm'"), ("IVF0,Flat", "IVF0"), ("HNSW1", "HNSW1")])
def test_what_faiss_does_not_know_is_refused(folder, tmp_path, factory, says):
    result = support.run(build_line(folder, tmp_path / "out", "l2", factory))
    assert result.code == USAGE and says in support.complaints(result)[0], result
    assert not list(tmp_path.iterdir())


def test_too_few_rows_to_train_are_refused(folder, tmp_path):
    result = support.run(build_line(folder, tmp_path / "out", "l2", "IVF4000,Flat"))
    assert result.code == CONFIG and "3000 rows" in support.complaints(result)[0], result
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("factory, more, says", [
    (GRAPH, ["--nprobe", 3], "--ef-search"), (LISTS, ["--ef-search", 3], "--nprobe"), (GRAPH, ["--part", "0/2"], "--part"),
    (GRAPH, ["--index", "flat", "--ef-search", 3], "--ef-search")])
def test_options_of_another_index_are_refused(folder, tmp_path, factory, more, says):
    result = support.run(["search", *line(folder, "l2", factory, tmp_path / "out.h5", *more)])
    assert result.code == USAGE and says in support.complaints(result)[0], result


def test_the_rows_may_be_searched_whole(folder, tmp_path):
    support.search(line(folder, "l2", GRAPH, tmp_path / "whole.h5", "--index", "flat"))
    support.search(["--base", folder / "base.h5", "--queries", folder / "base.h5", "-k", K, "-o", tmp_path / "plain.h5"])
    assert support.payload(tmp_path / "whole.h5") == support.payload(tmp_path / "plain.h5")


def test_bytes_are_searched_as_floats(tmp_path):
    random = np.random.default_rng(7)
    rows = random.integers(0, 256, size=(400, 8)).astype(np.uint8)
    support.write_h5(tmp_path / "base.h5", train=rows, test=rows[:20])
    built = support.run(["build", "--base", tmp_path / "base.h5", "--index", "faiss:SQ8", "-o", tmp_path / "index", "-q"])
    assert built.code == 0, built
    support.search(["--base", tmp_path / "index", "--queries", tmp_path / "base.h5", "-k", 3, "-o", tmp_path / "out.h5"])
    neighbors, distances = support.read_result(tmp_path / "out.h5")
    assert (distances[:, 0] == 0).all() and (rows[neighbors[:, 0]] == rows[:20]).all()


def test_info_and_curve_know_it(folder, tmp_path):
    described = support.run(["info", index_of(folder, "l2", GRAPH)])
    assert described.code == 0 and f"index faiss:{GRAPH}  {ROWS} x {DIM} f32" in described.stdout, described
    curve = support.run(["eval", "--curve", "--base", index_of(folder, "l2", GRAPH), "--queries", folder / "base.h5", "-k", K,
                         "--rerank", 1, "--ef-search", "5,40", "--repeat", 1, "--threads", 1, "--json"], np=2)
    assert curve.code == 0, curve
    low, high = json.loads(curve.stdout)["curves"][0]["points"]
    assert high["parameter"] == "ef-search 40" and low["recall"][str(K)] <= high["recall"][str(K)] >= 0.9
