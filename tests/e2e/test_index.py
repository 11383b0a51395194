"""Search in an index directory: exact inside the lists that a query looks into, the recall measured and stated."""

import json
import os
import shutil

import h5py
import interrupted_job
import numpy as np
import pytest
import support
from list_oracle import best, rows_by_list, scores

USAGE, DATA, MISSING, CONFIG = 64, 65, 66, 78
ROWS, QUERIES, DIM, LISTS, K = 3000, 120, 13, 24, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small integers around a few centres: many ties, and ids that are not row numbers."""
    folder = tmp_path_factory.mktemp("index")
    random = np.random.default_rng(3)
    centres = random.integers(-3, 4, (40, DIM))
    base = (centres[random.integers(0, 40, ROWS)] + random.integers(-2, 3, (ROWS, DIM))).astype(np.float32)
    queries = (centres[random.integers(0, 40, QUERIES)] + random.integers(-3, 4, (QUERIES, DIM))).astype(np.float32)
    support.write_h5(folder / "base.h5", train=base, test=queries, ids=np.arange(ROWS, dtype=np.int64)[::-1] * 3 + 5)
    for metric in ["l2", "ip", "cosine"]:
        built = support.run(["build", "--base", folder / "base.h5", "--index", f"ivf{LISTS}", "--metric", metric,
                             "--shards", 3, "--threads", 1, "-o", folder / metric, "-q"])
        assert built.code == 0, built
    return folder


def truth(folder, metric, nprobe):
    """Ids and distances by double arithmetic inside the nprobe lists of the nearest centroids."""
    centroids, vectors, ids = rows_by_list(folder / metric)
    with h5py.File(folder / "base.h5") as file:
        queries = file["test"][:].astype(np.float64)
    by = "l2" if metric == "l2" else "ip"
    answers = []
    for query in queries:
        probed, _ = best(by, scores(by, query, centroids), np.arange(len(centroids)), nprobe)
        rows = np.concatenate([vectors[i] for i in probed])
        answers.append(best(metric, scores(metric, query, rows), np.concatenate([ids[i] for i in probed]), K))
    pad = -1, np.inf if metric == "l2" else -np.inf
    neighbors = [np.pad(found, (0, K - len(found)), constant_values=pad[0]) for found, _ in answers]
    distances = [np.pad(values, (0, K - len(values)), constant_values=pad[1]) for _, values in answers]
    return np.array(neighbors), np.array(distances, np.float32)


def line(folder, metric, output, *more):
    return ["--base", folder / metric, "--queries", folder / "base.h5", "-k", K, "--threads", 1, "-o", output, *more]


def assert_is(path, wanted):
    neighbors, distances = support.read_result(path)
    np.testing.assert_allclose(distances, wanted[1], rtol=2e-7)
    assert (neighbors == wanted[0]).all() or (distances[neighbors != wanted[0]] ==
                                              wanted[1][neighbors != wanted[0]]).all()


@pytest.mark.parametrize("metric, nprobe", [("l2", 1), ("l2", 5), ("ip", 3), ("cosine", 4), ("l2", LISTS)])
def test_the_answer_is_exact_inside_the_probed_lists(folder, tmp_path, metric, nprobe):
    result = support.search(line(folder, metric, tmp_path / "out.h5", "--nprobe", nprobe))
    assert_is(tmp_path / "out.h5", truth(folder, metric, nprobe))
    assert result.stdout.endswith("RESULT OK\n") and f"lists     {nprobe} of {LISTS} a query" in result.stdout
    attributes = support.attributes(tmp_path / "out.h5")
    assert attributes["nprobe"] == nprobe and attributes["nlist"] == LISTS and attributes["recall_queries"] == QUERIES


@pytest.mark.parametrize("ranks, more", [
    (2, []), (3, ["--batch", 50]), (4, ["--router", "all"]), (7, ["--merge", "gather"]),
    (2, ["--memory", "240KiB", "--batch", 64])])
def test_the_same_bytes_however_it_is_searched(folder, tmp_path, ranks, more):
    support.search(line(folder, "l2", tmp_path / "one.h5", "--nprobe", 3))
    result = support.search(line(folder, "l2", tmp_path / "out.h5", "--nprobe", 3, *more), np=ranks)
    assert support.payload(tmp_path / "out.h5") == support.payload(tmp_path / "one.h5")
    if "--memory" in more:
        assert "base streamed" in result.stderr and "recall not measured" in result.stdout


@pytest.mark.parametrize("ranks, more", [(1, []), (3, ["--memory", "220KiB", "--batch", 64])])
def test_a_wanted_recall_finds_the_number_of_lists_and_is_measured(folder, tmp_path, ranks, more):
    wanted = 0.9
    result = support.search(line(folder, "l2", tmp_path / "out.h5", "--recall", wanted, "--json", *more), np=ranks)
    lists = json.loads(result.stdout)["lists"]
    attributes = support.attributes(tmp_path / "out.h5")
    assert attributes["nprobe"] == lists["nprobe"] < LISTS
    assert lists["recall"]["queries"] == QUERIES // 2
    assert lists["recall"]["low"] <= lists["recall"]["share"] <= lists["recall"]["high"]
    assert_is(tmp_path / "out.h5", truth(folder, "l2", lists["nprobe"]))
    everything, gaps = truth(folder, "l2", LISTS)
    neighbors, distances = support.read_result(tmp_path / "out.h5")
    met = np.mean([len(set(a) & set(b)) / K for a, b in zip(neighbors, everything)])
    assert lists["recall"]["low"] <= met <= lists["recall"]["high"], (met, lists)
    judged = support.run(["eval", tmp_path / "out.h5", "--oracle", 0, "--json"])
    as_near = np.mean(distances <= gaps[:, -1:])  # ties with the last neighbor are as good as it
    assert judged.code == 0 and json.loads(judged.stdout)["recall"] == pytest.approx(as_near, abs=1e-9), judged
    one_list = np.mean([len(set(a) & set(b)) / K for a, b in zip(truth(folder, "l2", 1)[0], everything)])
    assert one_list < wanted <= met + 0.05, "the data would not tell a search that ignores --recall"


def test_eval_does_not_trust_a_wrong_neighbor(folder, tmp_path):
    support.search(line(folder, "l2", tmp_path / "out.h5", "--nprobe", 2, "-q"))
    with h5py.File(tmp_path / "out.h5", "r+") as file:
        file["distances"][3, K - 1] += 1
    judged = support.run(["eval", tmp_path / "out.h5", "--oracle", 0])
    assert judged.code == DATA and "RESULT NOT TRUSTED: query 3" in judged.stdout and "recall " in judged.stdout, judged


def test_an_index_may_be_searched_whole(folder, tmp_path):
    support.search(line(folder, "cosine", tmp_path / "whole.h5", "--index", "flat"))
    support.search(["--base", folder / "base.h5", "--queries", folder / "base.h5", "--metric", "cosine", "-k", K, "-o",
                    tmp_path / "plain.h5"])
    assert support.payload(tmp_path / "whole.h5") == support.payload(tmp_path / "plain.h5")


def test_killed_between_batches_the_same_line_goes_on(folder, tmp_path):
    more = ["--recall", 0.8]
    support.search(line(folder, "l2", tmp_path / "whole.h5", *more))
    output = tmp_path / "out.h5"
    job = ["search", *line(folder, "l2", output, *more, "--batch", 8)]
    process = interrupted_job.launch_held(interrupted_job.build_library(tmp_path), job, output, 2)
    for pid in support.child_pids(process):
        os.kill(pid, 9)
    interrupted_job.end_of(process, tmp_path)
    other = support.run(["search", *line(folder, "l2", output, "--nprobe", 5, "--batch", 8)])
    assert other.code == CONFIG and "nprobe" in support.complaints(other)[0], other
    result = support.run(job, np=3)
    assert result.code == 0 and "resumed 1 time(s)" in result.stdout, result
    assert support.payload(output) == support.payload(tmp_path / "whole.h5")


def test_what_a_stream_has_left_is_found_on_whichever_rank_holds_it(folder, tmp_path):
    support.search(line(folder, "l2", tmp_path / "whole.h5", "--nprobe", 3))
    output = tmp_path / "out.h5"
    job = ["search", *line(folder, "l2", output, "--nprobe", 3)]
    streamed = [*job, "--memory", "240KiB", "--batch", 64, "--checkpoint", 0]
    process = interrupted_job.launch_held(interrupted_job.build_library(tmp_path), streamed, output, 2, "checkpoint", 1)
    for pid in support.child_pids(process):
        os.kill(pid, 9)
    interrupted_job.end_of(process, tmp_path)
    result = support.run(job, np=3)  # the rest of the base fits into memory
    assert result.code == 0 and "resumed 1 time(s)" in result.stdout, result
    assert support.payload(output) == support.payload(tmp_path / "whole.h5")


def flip_a_byte_of(path, data_set):
    with h5py.File(path, "r+") as file:
        rows = file[data_set][:]
        rows.view(np.uint8).reshape(-1)[17] ^= 4
        file[data_set][:] = rows


@pytest.mark.parametrize("what, code, names", [
    ("vectors", DATA, "shard-00001.h5"), ("ids", DATA, "shard-00002.h5"), ("lists", DATA, "lists.h5"),
    ("manifest", DATA, "manifest.json"), ("missing", MISSING, "shard-00001.h5")])
def test_damage_is_refused_by_the_name_of_the_file(folder, tmp_path, what, code, names):
    shutil.copytree(folder / "l2", tmp_path / "l2")
    shutil.copy(folder / "base.h5", tmp_path)
    if what == "missing":
        (tmp_path / "l2" / names).unlink()
    elif what == "manifest":
        path = tmp_path / "l2" / names
        path.write_text(path.read_text().replace('"l2"', '"ip"'))
    else:
        flip_a_byte_of(tmp_path / "l2" / names, {"vectors": "train", "ids": "ids", "lists": "centroids"}[what])
    result = support.run(["search", *line(tmp_path, "l2", tmp_path / "out.h5", "--nprobe", 2)], np=2)
    assert result.code == code and names in support.complaints(result)[0], result
    assert not list(tmp_path.glob("out.h5*"))


@pytest.mark.parametrize("more, says", [
    (["--metric", "ip"], "--metric l2"), (["--recall", "1.5"], "--recall"), (["--nprobe", 0], "nprobe"),
    (["--index", "flat", "--nprobe", 3], "--nprobe"), (["--recall", 0.9, "--recall-queries", 1], "--recall-queries"),
    (["--router", "some"], "router")])
def test_what_makes_no_sense_is_refused(folder, tmp_path, more, says):
    result = support.run(["search", *line(folder, "l2", tmp_path / "out.h5", *more)])
    assert result.code in (USAGE, DATA) and says in support.complaints(result)[0], result


@pytest.mark.parametrize("command, more", [("graph", ["-k", 3]), ("join", ["--eps", 1])])
def test_commands_that_do_not_take_an_index_say_so(folder, tmp_path, command, more):
    result = support.run([command, "--base", folder / "l2", *more, "-o", tmp_path / "out.h5"])
    assert result.code == USAGE and "is an index" in support.complaints(result)[0], result


@pytest.mark.parametrize("line_of", [
    lambda index, base: ["search", "--base", index, "--base", base, "--queries", base, "-o", "none.h5"],
    lambda index, base: ["serve", "--collection", f"docs={index}", "--listen", "127.0.0.1:0"]],
                         ids=["two bases", "serve"])
def test_an_index_where_files_are_wanted_is_named(folder, line_of):
    result = support.run(line_of(folder / "l2", folder / "base.h5"))
    assert result.code == USAGE and "is an index directory" in result.stdout + result.stderr, result


def test_info_says_what_an_index_is(folder):
    described = json.loads(support.run(["info", folder / "l2", "--json"]).stdout)["files"][0]
    index = described["index"]
    with h5py.File(folder / "l2" / "lists.h5") as lists:
        sizes = np.diff(lists["list_starts"][:])
    assert (index["type"], index["metric"], index["lists"]) == ("ivf", "l2", len(sizes))
    assert index["rows"] == sizes.sum() and index["cols"] == DIM
    assert (index["smallest_list"], index["largest_list"]) == (sizes.min(), sizes.max())
    plain = support.run(["info", folder / "l2"])
    assert plain.code == 0 and f"index ivf  {sizes.sum()} x {DIM}" in plain.stdout
    damaged = folder / "damaged-info"
    shutil.copytree(folder / "l2", damaged)
    (damaged / "lists.h5").write_bytes(b"no lists")
    result = support.run(["info", damaged])
    assert result.code == DATA and "lists.h5" in support.complaints(result)[0]


def test_one_query_finds_its_lists_and_tells_no_recall(folder, tmp_path):
    result = support.search(line(folder, "l2", tmp_path / "out.h5", "--queries-range", "5:6", "--json"))
    assert json.loads(result.stdout)["lists"]["recall"] is None
    assert "recall" not in support.attributes(tmp_path / "out.h5")


def test_a_plain_base_has_no_lists(folder, tmp_path):
    for more in (["--nprobe", 3], ["--index", "ivf"], ["--router", "lists"]):
        result = support.run(["search", "--base", folder / "base.h5", "--queries", folder / "base.h5", *more, "-o",
                              tmp_path / "out.h5"])
        assert result.code == USAGE, result
