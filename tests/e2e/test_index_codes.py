"""Indexes with codes: what they name is ranked by the stored rows; codes, candidates and recall against numpy."""

import json
import os
import shutil

import h5py
import interrupted_job
import numpy as np
import pytest
import support

USAGE, DATA, CONFIG = 64, 65, 78
ROWS, QUERIES, DIM, LISTS, K, RERANK = 4000, 90, 24, 16, 5, 4
CODECS = ["sq8", "pq12", "pq8x4"]
NEAR = 1e-4  # float32 may order candidates otherwise that are as near to each other as this


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clusters away from the origin, with ids that are not row numbers; an index for each metric and codec."""
    folder = tmp_path_factory.mktemp("codes")
    random = np.random.default_rng(5)
    centres = random.normal(size=(60, DIM)) + 4
    base = (centres[random.integers(0, 60, ROWS)] + random.normal(size=(ROWS, DIM))).astype(np.float32)
    queries = (centres[random.integers(0, 60, QUERIES)] + random.normal(size=(QUERIES, DIM))).astype(np.float32)
    support.write_h5(folder / "base.h5", train=base, test=queries, ids=np.arange(ROWS, dtype=np.int64)[::-1] * 3 + 5)
    for metric, codec in [("l2", "sq8"), ("l2", "pq12"), ("l2", "pq8x4"), ("ip", "pq12"), ("cosine", "pq12")]:
        build(folder, folder / f"{metric}-{codec}", metric, codec)
    return folder


def build(folder, output, metric, codec, *more, np=1):
    built = support.run(["build", "--base", folder / "base.h5", "--index", f"ivf{LISTS},{codec}", "--metric", metric,
                         "--shards", 3, "--threads", 1, "-o", output, "-q", *more], np=np)
    assert built.code == 0, built


def read_index(directory):
    """Centroids, codec, list of every place, vectors, ids and codes, in list order."""
    with h5py.File(directory / "lists.h5") as file:
        centroids, codec, starts = file["centroids"][:], file["codec"][:], file["list_starts"][:]
    parts = []
    for path in sorted(directory.glob("shard-*.h5")):
        with h5py.File(path) as file:
            parts.append((file["train"][:], file["ids"][:], file["codes"][:]))
    vectors, ids, codes = (np.concatenate(column) for column in zip(*parts))
    return centroids, codec, np.repeat(np.arange(LISTS), np.diff(starts)), vectors, ids, codes


def coded(metric, vectors, centroids, lists):
    """The vectors that are coded."""
    rows = vectors.astype(np.float64)
    if metric == "ip":
        return rows
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows - centroids[lists]


def decoded(name, codec, codes):
    if name == "sq8":
        return codec[0] + codes * codec[1].astype(np.float64)
    if name.endswith("x4"):
        codes = np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)
    parts = codes.shape[1]
    words = codec.reshape(len(codec), parts, DIM // parts)
    return words[codes, np.arange(parts)].reshape(len(codes), DIM).astype(np.float64)


@pytest.mark.parametrize("metric, codec", [("l2", "sq8"), ("l2", "pq12"), ("l2", "pq8x4"), ("ip", "pq12"),
                                           ("cosine", "pq12")])
def test_every_code_is_the_nearest_there_is(folder, metric, codec):
    centroids, parameters, lists, vectors, _, codes = read_index(folder / f"{metric}-{codec}")
    wanted = coded(metric, vectors, centroids, lists)
    found = decoded(codec, parameters, codes)
    if codec == "sq8":
        inside = np.clip(wanted, parameters[0], parameters[0] + 255 * parameters[1])
        assert (np.abs(found - inside) <= 0.5001 * parameters[1] + 1e-6).all()
    else:
        parts = int(codec[2:].removesuffix("x4"))
        words = parameters.reshape(len(parameters), parts, -1)
        cut = wanted.reshape(len(wanted), parts, 1, -1)
        best = ((cut - words.transpose(1, 0, 2)) ** 2).sum(axis=3).min(axis=2)
        mine = ((cut[:, :, 0] - found.reshape(len(found), parts, -1)) ** 2).sum(axis=2)
        assert (mine <= best * (1 + 1e-4) + 1e-6).all()
    assert np.square(wanted - found).sum() < 0.5 * np.square(wanted).sum(), "the codes say nothing"


def similarity(metric, query, rows):
    """Larger is nearer."""
    if metric == "l2":
        return -((rows - query) ** 2).sum(axis=1)
    return rows @ query


def exact(metric, query, rows):
    products = rows @ query
    if metric == "l2":
        return ((rows - query) ** 2).sum(axis=1)
    return products if metric == "ip" else products / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


def line(folder, index, output, *more):
    return ["--base", folder / index, "--queries", folder / "base.h5", "-k", K, "--rerank", RERANK, "--threads", 1, "-o",
            output, *more]


def queries_of(folder):
    with h5py.File(folder / "base.h5") as file:
        return file["test"][:].astype(np.float64)


@pytest.mark.parametrize("metric, codec", [("l2", "sq8"), ("l2", "pq12"), ("l2", "pq8x4"), ("ip", "pq12"),
                                           ("cosine", "pq12")])
def test_the_nearest_codes_of_the_probed_lists_are_ranked_by_their_rows(folder, tmp_path, metric, codec):
    nprobe = 3
    result = support.search(line(folder, f"{metric}-{codec}", tmp_path / "out.h5", "--nprobe", nprobe))
    assert result.stdout.endswith("RESULT OK\n") and f"{K * RERANK} candidates a query" in result.stdout
    neighbors, distances = support.read_result(tmp_path / "out.h5")
    centroids, parameters, lists, vectors, ids, codes = read_index(folder / f"{metric}-{codec}")
    stand_for = decoded(codec, parameters, codes) + (0 if metric == "ip" else centroids[lists])
    place_of = {row: place for place, row in enumerate(ids)}
    for query, found, at in zip(queries_of(folder), neighbors, distances):
        probed = np.argsort(-similarity("l2" if metric == "l2" else "ip", query, centroids), kind="stable")[:nprobe]
        places = np.flatnonzero(np.isin(lists, probed))
        scores = similarity(metric, query, stand_for[places])
        cut = np.sort(scores)[::-1][K * RERANK - 1]
        margin = NEAR * max(1, np.abs(scores).max())
        values = exact(metric, query, vectors[places].astype(np.float64))
        worst = exact(metric, query, vectors[[place_of[found[-1]]]].astype(np.float64))[0]
        nearer = values < worst * (1 - 1e-6) if metric == "l2" else values > worst * (1 + 1e-6)
        assert set(ids[places[(scores > cut + margin) & nearer]]) <= set(found), "a near candidate is missing"
        assert set(found) <= set(ids[places[scores >= cut - margin]]), "no candidate"
        np.testing.assert_allclose(at, exact(metric, query, vectors[[place_of[i] for i in found]].astype(np.float64)),
                                   rtol=3e-6)
        assert (np.diff(at) >= 0).all() if metric == "l2" else (np.diff(at) <= 0).all()


@pytest.mark.parametrize("ranks, more", [
    (2, []), (3, ["--batch", 40]), (4, ["--router", "all"]), (7, ["--merge", "gather"]), (1, ["--threads", 2]),
    (2, ["--isa", "portable"])])
def test_the_same_bytes_however_it_is_searched(folder, tmp_path, ranks, more):
    support.search(line(folder, "l2-pq12", tmp_path / "one.h5", "--nprobe", 3))
    support.search(line(folder, "l2-pq12", tmp_path / "out.h5", "--nprobe", 3, *more), np=ranks)
    assert support.payload(tmp_path / "out.h5") == support.payload(tmp_path / "one.h5")


def test_codes_that_do_not_fit_into_memory_are_streamed(folder, tmp_path):
    support.search(line(folder, "l2-sq8", tmp_path / "one.h5", "--nprobe", 3))
    result = support.search(line(folder, "l2-sq8", tmp_path / "out.h5", "--nprobe", 3, "--memory", "160KiB", "--batch", 32),
                            np=2)
    assert "base streamed" in result.stderr, result.stderr
    assert support.payload(tmp_path / "out.h5") == support.payload(tmp_path / "one.h5")
    refused = support.run(["search", *line(folder, "l2-sq8", tmp_path / "no.h5", "--memory", "190KiB", "--batch", 32)])
    assert refused.code == CONFIG and "--nprobe" in support.complaints(refused)[0], refused


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_index_for_any_ranks(folder, tmp_path, codec):
    build(folder, tmp_path / "out", "l2", codec, np=3)
    for path in sorted((tmp_path / "out").glob("*.h5")):
        assert path.read_bytes() == (folder / f"l2-{codec}" / path.name).read_bytes(), path


@pytest.mark.parametrize("count", [2, 4])
def test_killed_while_it_codes_the_same_line_goes_on(folder, tmp_path, count):
    job = ["build", "--base", folder / "base.h5", "--index", f"ivf{LISTS},pq12", "--metric", "l2", "--shards", 3,
           "--threads", 1, "-o", tmp_path / "out", "-q", "--batch", 700]
    # Training, 6 blocks of assignment and 6 of placing are recorded before the codec is.
    process = interrupted_job.launch_held(interrupted_job.build_library(tmp_path), job, tmp_path / "out", None, "step",
                                          13 + count)
    process.kill()
    interrupted_job.end_of(process, tmp_path)
    assert (tmp_path / "out.journal").exists()
    result = support.run(job, np=2)
    assert result.code == 0, result
    for path in sorted((tmp_path / "out").glob("*.h5")):
        assert path.read_bytes() == (folder / "l2-pq12" / path.name).read_bytes(), path


def recall_of(folder, path):
    neighbors, _ = support.read_result(path)
    _, _, _, vectors, ids, _ = read_index(folder / "l2-pq12")
    met = [len(set(found) & set(ids[np.argsort(exact("l2", query, vectors.astype(np.float64)))[:K]]))
           for query, found in zip(queries_of(folder), neighbors)]
    return np.mean(met) / K


def test_a_wanted_recall_finds_the_number_of_lists_and_is_measured(folder, tmp_path):
    wanted = 0.9
    result = support.search(line(folder, "l2-pq12", tmp_path / "out.h5", "--recall", wanted, "--json"), np=3)
    lists = json.loads(result.stdout)["lists"]
    assert lists["code_bytes"] == 12 and lists["rerank"] == RERANK and lists["nprobe"] < LISTS
    assert lists["recall"]["queries"] == QUERIES // 2
    met = recall_of(folder, tmp_path / "out.h5")
    assert lists["recall"]["low"] <= met <= lists["recall"]["high"], (met, lists)
    assert met >= wanted - 0.05
    attributes = support.attributes(tmp_path / "out.h5")
    assert attributes["codec"] == "pq12" and attributes["rerank"] == RERANK
    support.search(line(folder, "l2-pq12", tmp_path / "one.h5", "--nprobe", 1, "-q"))
    assert recall_of(folder, tmp_path / "one.h5") < wanted, "the data would not tell a search that ignores --recall"
    judged = support.run(["eval", tmp_path / "out.h5", "--oracle", 0, "--json"])
    assert judged.code == 0 and json.loads(judged.stdout)["recall"] == pytest.approx(met, abs=0.01), judged


def test_a_recall_that_codes_can_not_reach_is_said(folder, tmp_path):
    result = support.search(line(folder, "l2-pq8x4", tmp_path / "out.h5", "--rerank", 1, "--recall", 0.999))
    assert "raise --rerank" in result.stdout


def test_the_rows_of_such_an_index_may_be_searched_whole(folder, tmp_path):
    support.search(["--base", folder / "l2-pq12", "--queries", folder / "base.h5", "-k", K, "--index", "flat", "-o",
                    tmp_path / "whole.h5"])
    support.search(["--base", folder / "base.h5", "--queries", folder / "base.h5", "-k", K, "-o", tmp_path / "plain.h5"])
    assert support.payload(tmp_path / "whole.h5") == support.payload(tmp_path / "plain.h5")


def test_one_query_chooses_its_lists_and_tells_no_recall(folder, tmp_path):
    one = line(folder, "l2-pq8x4", tmp_path / "out.h5", "--queries-range", "3:4", "--recall", 1, "--rerank", 1000, "--json")
    lists = json.loads(support.search(one).stdout)["lists"]
    assert lists["recall"] is None
    neighbors, _ = support.read_result(tmp_path / "out.h5")
    _, _, _, vectors, ids, _ = read_index(folder / "l2-pq8x4")
    assert set(neighbors[0]) == set(ids[np.argsort(exact("l2", queries_of(folder)[3], vectors.astype(np.float64)))[:K]])


@pytest.mark.parametrize("codec", ["sq8", "pq4"])
@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_values_at_the_end_of_float32_lose_no_neighbor(tmp_path, metric, codec):
    random = np.random.default_rng(9)
    rows = (random.normal(size=(600, 8)) * 1e19).astype(np.float32)
    rows[3, 0], rows[5, 0] = 3e38, -3e38
    support.write_h5(tmp_path / "base.h5", train=rows, test=rows[:20])
    built = support.run(["build", "--base", tmp_path / "base.h5", "--index", f"ivf4,{codec}", "--metric", metric, "-o",
                         tmp_path / "index", "-q"])
    assert built.code == 0, built
    support.search(["--base", tmp_path / "index", "--queries", tmp_path / "base.h5", "-k", K, "--nprobe", 4, "-o",
                    tmp_path / "out.h5", "-q"])
    neighbors, _ = support.read_result(tmp_path / "out.h5")
    assert (neighbors >= 0).all()


def test_more_candidates_than_rows_are_all_rows(folder, tmp_path):
    support.search(line(folder, "l2-pq8x4", tmp_path / "out.h5", "--nprobe", LISTS, "--rerank", 10**12))
    support.search(["--base", folder / "base.h5", "--queries", folder / "base.h5", "-k", K, "-o", tmp_path / "plain.h5"])
    assert support.payload(tmp_path / "out.h5") == support.payload(tmp_path / "plain.h5")


def test_rows_that_are_damaged_are_noticed_where_the_recall_is_measured(folder, tmp_path):
    shutil.copytree(folder / "l2-pq12", tmp_path / "index")
    with h5py.File(tmp_path / "index" / "shard-00002.h5", "r+") as file:
        file["train"][7, 3] += 1
    result = support.run(["search", "--base", tmp_path / "index", "--queries", folder / "base.h5", "-o", tmp_path / "out.h5"],
                         np=2)
    assert result.code == DATA and "shard-00002.h5" in support.complaints(result)[0], result


def test_parts_that_were_searched_otherwise_are_not_merged(folder, tmp_path):
    parts = [tmp_path / "0.h5", tmp_path / "1.h5"]
    for part, rerank in enumerate([4, 6]):
        support.search(["--base", folder / "l2-pq12", "--queries", folder / "base.h5", "-k", K, "--nprobe", 3, "--rerank",
                        rerank, "--part", f"{part}/2", "-o", parts[part], "-q"])
    result = support.run(["merge", *parts, "-o", tmp_path / "out.h5"])
    assert result.code == DATA and "rerank" in support.complaints(result)[0], result


@pytest.mark.parametrize("data_set, names", [("codes", "shard-00001.h5"), ("codec", "lists.h5")])
def test_damage_is_refused_by_the_name_of_the_file(folder, tmp_path, data_set, names):
    shutil.copytree(folder / "l2-pq12", tmp_path / "index")
    with h5py.File(tmp_path / "index" / names, "r+") as file:
        values = file[data_set][:]
        values.view(np.uint8).reshape(-1)[17] ^= 4
        file[data_set][:] = values
    result = support.run(["search", "--base", tmp_path / "index", "--queries", folder / "base.h5", "--nprobe", 2,
                          "--recall-queries", 0, "-o", tmp_path / "out.h5"], np=2)
    assert result.code == DATA and names in support.complaints(result)[0], result
    assert not os.path.exists(tmp_path / "out.h5")


@pytest.mark.parametrize("spec, code, says", [
    ("ivf16,pq7", USAGE, "divides d"), ("ivf16,pq", USAGE, "known: sq8"), ("ivf16,", USAGE, "known: sq8"),
    ("ivf16,sq4", USAGE, "known: sq8"), ("flat,pq12", USAGE, "unknown index"), ("ivf16,pq0", USAGE, "parts")])
def test_codes_that_make_no_sense_are_refused(folder, tmp_path, spec, code, says):
    result = support.run(["build", "--base", folder / "base.h5", "--index", spec, "-o", tmp_path / "out"])
    assert result.code == code and says in support.complaints(result)[0], result
    assert not list(tmp_path.iterdir())


def test_too_few_rows_for_the_codewords_are_refused(tmp_path):
    support.write_h5(tmp_path / "base.h5", train=np.random.default_rng(1).normal(size=(100, 8)).astype(np.float32))
    few = support.run(["build", "--base", tmp_path / "base.h5", "--index", "ivf2,pq4", "-o", tmp_path / "out"])
    assert few.code == CONFIG and "256 codewords" in support.complaints(few)[0], few
    result = support.run(["build", "--base", tmp_path / "base.h5", "--index", "ivf2,pq4x4", "-o", tmp_path / "out"])
    assert result.code == 0, result


def test_rerank_is_for_codes_alone(folder, tmp_path):
    result = support.run(["search", "--base", folder / "base.h5", "--queries", folder / "base.h5", "--rerank", 4, "-o",
                          tmp_path / "out.h5"])
    assert result.code == USAGE and "--rerank" in support.complaints(result)[0], result


def test_a_curve_counts_what_the_codes_miss(folder, tmp_path):
    line_of = ["eval", "--curve", "--base", folder / "l2-pq8x4", "--queries", folder / "base.h5", "-k", K, "--rerank", 2,
               "--nprobe", f"2,{LISTS}", "--repeat", 1, "--threads", 1, "--json"]
    recalls = [[point["recall"][str(K)] for point in json.loads(support.run(line_of, np=ranks).stdout)["curves"][0]["points"]]
               for ranks in [1, 3]]
    assert recalls[0] == recalls[1]
    for nprobe, recall in zip([2, LISTS], recalls[0]):
        out = tmp_path / f"{nprobe}.h5"
        support.search(["--base", folder / "l2-pq8x4", "--queries", folder / "base.h5", "-k", K, "--rerank", 2, "--nprobe",
                        nprobe, "--threads", 1, "-q", "-o", out])
        judged = json.loads(support.run(["eval", out, "--oracle", 0, "--json"]).stdout)["recall"]
        assert judged == pytest.approx(recall, abs=1e-6), nprobe
    assert recalls[0][-1] < 1, "with all lists only the codes can miss a neighbor"
