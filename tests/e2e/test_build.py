"""mpishards build: every row lies in its nearest centroid's list, the same bytes for any ranks and after any kill."""

import json
import os
import signal

import h5py
import interrupted_job
import numpy as np
import pytest
import support

USAGE, DATA_ERROR, CANNOT_CREATE, STOPPED, CONFIG = 64, 65, 73, 75, 78
ROWS, DIM, LISTS = 3000, 12, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clustered base with ids of its own, and the index that one rank makes of it."""
    folder = tmp_path_factory.mktemp("build")
    random = np.random.default_rng(4)
    base = random.standard_normal((25, DIM))[random.integers(0, 25, ROWS)] + random.standard_normal((ROWS, DIM)) / 4
    support.write_h5(folder / "base.h5", train=base.astype(np.float32), ids=np.arange(ROWS, dtype=np.int64)[::-1] * 5)
    for metric in ("l2", "ip", "cosine"):
        result = support.run(line(folder, folder / metric, metric=metric))
        assert result.code == 0, result
    return folder


def line(folder, output, *more, metric="l2"):
    return ["build", "--base", folder / "base.h5", "--index", f"ivf{LISTS}", "--metric", metric, "--shards", 3,
            "--training-rows", 2000, "--iterations", 5, "--threads", 1, "-o", output, *more]


def manifest(index):
    return json.loads((index / "manifest.json").read_text())


def payload(index):
    """Everything that must not depend on ranks and interruptions: all but what tells runs apart."""
    told = {name: value for name, value in manifest(index).items() if name not in ("facts", "xxh3")}
    files = {path.name: path.read_bytes() for path in index.iterdir() if path.name != "manifest.json"}
    return told, files


def assert_alone(index):
    """Nothing of the work on an index is left beside it."""
    left = [path.name for path in index.parent.iterdir()
            if path.name.startswith(f"{index.name}.") or path.name.endswith(interrupted_job.LITTER)]
    assert not left, left


def nearness(rows, centroids, metric):
    rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    products = rows @ centroids.T
    if metric == "l2":
        return 2 * products - (centroids ** 2).sum(axis=1) - (rows ** 2).sum(axis=1)[:, None]
    if metric == "cosine":
        return products / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(centroids, axis=1)
    return products


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_every_row_is_in_the_list_of_its_nearest_centroid(folder, metric):
    index = folder / metric
    shards = manifest(index)["shards"]
    vectors, ids = [], []
    for shard in shards:
        with h5py.File(index / shard["file"]) as file:
            vectors.append(file["train"][:])
            ids.append(file["ids"][:])
            assert len(ids[-1]) == shard["rows"] == ROWS // 3
    vectors, ids = np.concatenate(vectors), np.concatenate(ids)
    with h5py.File(folder / "base.h5") as file:
        base, own_ids = file["train"][:], file["ids"][:]
    assert (np.sort(ids) == np.sort(own_ids)).all()
    row_of = {own: row for row, own in enumerate(own_ids)}
    rows = np.array([row_of[own] for own in ids])
    assert (vectors == base[rows]).all()
    with h5py.File(index / "lists.h5") as file:
        centroids, starts = file["centroids"][:], file["list_starts"][:]
    assert starts[0] == 0 and starts[-1] == ROWS and len(starts) == LISTS + 1
    lists = np.repeat(np.arange(LISTS), np.diff(starts))
    near = nearness(vectors, centroids, metric)
    assert (near[np.arange(ROWS), lists] >= near.max(axis=1) - 1e-6).all()
    assert (np.diff(rows)[np.diff(lists) == 0] > 0).all()  # a list keeps the order of the base
    assert np.diff(starts).max() < ROWS / 4  # the training has trained
    if metric != "l2":
        assert np.allclose(np.linalg.norm(centroids.astype(np.float64), axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("ranks, more", [(3, ["--batch", 100]), (2, ["--threads", 2])])
def test_ranks_blocks_and_threads_do_not_change_a_byte(folder, tmp_path, ranks, more):
    result = support.run(line(folder, tmp_path / "index", *more, "--json"), np=ranks)
    assert result.code == 0, result
    assert payload(tmp_path / "index") == payload(folder / "l2")
    assert_alone(tmp_path / "index")
    report = json.loads(result.stdout)
    assert report["schema"] == "mpishards.build/1" and report["rows"] == ROWS
    with h5py.File(tmp_path / "index/lists.h5") as file:
        sizes = np.diff(file["list_starts"][:])
    assert report["lists"]["count"] == LISTS
    assert (report["lists"]["smallest"], report["lists"]["largest"]) == (sizes.min(), sizes.max())
    assert report["lists"]["imbalance"] == pytest.approx((sizes.astype(float) ** 2).sum() * LISTS / ROWS ** 2)


@pytest.mark.parametrize("kind, count", [("step", 1), ("step", 4), ("step", 10), ("publishing", 1)],
                         ids=["trained", "assigning", "placing", "publishing"])
def test_what_was_killed_goes_on(folder, tmp_path, kind, count):
    output = tmp_path / "index"
    job = line(folder, output, "--batch", 500)
    process = interrupted_job.launch_held(interrupted_job.build_library(folder), job, output, 2, kind, count)
    for pid in support.child_pids(process):
        os.kill(pid, 9)
    assert interrupted_job.end_of(process, tmp_path) != 0 and not output.exists()
    result = support.run(job, np=3)
    assert result.code == 0 and "resuming: " in result.stderr, result
    assert payload(output) == payload(folder / "l2")
    assert_alone(output)


def test_a_stop_signal_ends_with_75_and_the_same_line_goes_on(folder, tmp_path):
    output = tmp_path / "index"
    job = line(folder, output, "--batch", 500)
    process = interrupted_job.launch_held(interrupted_job.build_library(folder), job, output, None, "step", 3)
    process.send_signal(signal.SIGTERM)
    interrupted_job.let_go(process, None, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == STOPPED and not output.exists()
    at = job.index("--shards")
    result = support.run([*job[:at], "--shards", 4, *job[at + 2:]])
    assert result.code == CONFIG and "shards was 3, is 4" in support.complaints(result)[0], result
    assert support.run(job).code == 0
    assert payload(output) == payload(folder / "l2")


def test_an_index_that_exists_is_replaced_at_the_end_and_only_if_asked_for(folder, tmp_path):
    output = tmp_path / "index"
    assert support.run(line(folder, output, metric="ip")).code == 0
    before = payload(output)
    result = support.run(line(folder, output))
    assert result.code == CANNOT_CREATE and "--overwrite" in support.complaints(result)[0], result
    job = line(folder, output, "--overwrite", "--batch", 500)
    process = interrupted_job.launch_held(interrupted_job.build_library(folder), job, output, None, "step", 5)
    process.kill()
    interrupted_job.end_of(process, tmp_path)
    assert payload(output) == before
    assert support.run(job).code == 0
    assert payload(output) == payload(folder / "l2")
    assert_alone(output)


def test_bad_input_is_refused_by_name(folder, tmp_path):
    base = np.ones((200, 4), np.float32)
    base[150, 2] = np.nan
    support.write_h5(tmp_path / "nan.h5", train=base)
    for index in ("ivf3", "flat"):
        result = support.run(["build", "--base", tmp_path / "nan.h5", "--index", index, "-o", tmp_path / "out"], np=2)
        assert result.code == DATA_ERROR and "nan.h5" in result.stderr and "row 150" in result.stderr, result
    for index, words in (("ivf", ["ivf", "flat"]), ("ivf0", ["ivf0"]), ("hnsw32", ["hnsw32", "ivf"])):
        result = support.run(["build", "--base", folder / "base.h5", "--index", index, "-o", tmp_path / "out"])
        assert result.code == USAGE and all(word in result.stderr for word in words), result
    result = support.run(["build", "--base", folder / "base.h5", "--index", "ivf5000", "-o", tmp_path / "out"])
    assert result.code == CONFIG and "5000" in result.stderr and str(ROWS) in result.stderr, result
    result = support.run(line(folder, tmp_path / "missing/out"))
    assert result.code == CANNOT_CREATE and "missing" in result.stderr, result
    (tmp_path / "mine").mkdir()
    result = support.run(line(folder, tmp_path / "mine", "--overwrite"))
    assert result.code == CANNOT_CREATE and "no index" in result.stderr, result
    result = support.run(["build", "--base", folder / "l2/shard-00000.h5", "--index", "flat", "-o", folder / "l2",
                          "--overwrite"])
    assert result.code == USAGE and "lies in the output" in result.stderr, result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "nan.h5"]


def test_a_dry_run_prints_the_plan_and_touches_nothing(folder, tmp_path):
    result = support.run(line(folder, tmp_path / "index", "--dry-run", "--json"))
    plan = json.loads(result.stdout)
    assert result.code == 0 and plan["nlist"] == LISTS and plan["training_rows"] == 2000, result
    assert plan["memory_bytes"] == sum(item["bytes"] for item in plan["memory"])
    assert not list(tmp_path.iterdir())
