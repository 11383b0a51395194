"""All rows within a distance, and all pairs: sparse matrices, exact, the same for any number of ranks."""

import os

import h5py
import interrupted_job
import numpy as np
import pytest
import support

USAGE, CANNOT_CREATE, CONFIG = 64, 73, 78
ROWS, QUERIES, DIM = 700, 90, 9
EPS = {"l2": 6, "ip": 9, "cosine": 0.75}  # of small integers: many pairs sit exactly on 6 and 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small integers: many ties, rows that are there several times, and ids of their own."""
    folder = tmp_path_factory.mktemp("range")
    random = np.random.default_rng(8)
    base = random.integers(-2, 3, (ROWS, DIM)).astype(np.float32)
    base[300:340] = base[:40]
    base[7] = 0
    queries = random.integers(-2, 3, (QUERIES, DIM)).astype(np.float32)
    with h5py.File(folder / "base.h5", "w") as file:
        file["train"] = base
        file["test"] = queries
        file["ids"] = np.arange(ROWS, dtype=np.int64)[::-1] * 5 + 1
    return folder


def truth(folder, command, metric, symmetric=False):
    """indptr, indices and data by double arithmetic over all pairs."""
    with h5py.File(folder / "base.h5") as file:
        base, ids = file["train"][:].astype(np.float64), file["ids"][:]
        queries = file["test"][:].astype(np.float64) if command == "range" else base
    products, squares, own = queries @ base.T, (base * base).sum(axis=1), (queries * queries).sum(axis=1)
    if metric == "l2":
        values = own[:, None] + squares[None, :] - 2 * products
    elif metric == "ip":
        values = products
    else:
        lengths = own[:, None] * squares[None, :]
        values = np.where(lengths > 0, products / np.sqrt(np.where(lengths > 0, lengths, 1)), 0)
    values = values.astype(np.float32)
    near = values <= np.float32(EPS[metric]) if metric == "l2" else values >= np.float32(EPS[metric])
    if command == "join":
        ids = np.arange(ROWS)
        near &= ~np.eye(ROWS, dtype=bool) if symmetric else np.triu(np.ones((ROWS, ROWS), dtype=bool), 1)
    indptr, indices, data = [0], [], []
    for row, hits in enumerate(near):
        keys = values[row, hits] if metric == "l2" else -values[row, hits]
        order = np.lexsort((ids[hits], keys))
        indices.extend(ids[hits][order])
        data.extend(values[row, hits][order])
        indptr.append(len(indices))
    return np.array(indptr), np.array(indices), np.array(data, np.float32)


def line(folder, command, output, *more, metric="l2"):
    vectors = folder / "base.h5"
    inputs = ["--queries", f"{vectors}:/test"] if command == "range" else []
    return [command, "--base", f"{vectors}:/train", *inputs, "--metric", metric, "--eps", EPS[metric], "--threads", 1,
            "-o", output, *more]


def assert_is(path, wanted):
    with h5py.File(path) as file:
        for name, array, dtype in zip(["indptr", "indices", "data"], wanted, [np.int64, np.int64, np.float32]):
            assert file[name].dtype == dtype and file[name].shape == array.shape, name
            assert (file[name][:] == array).all(), name


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("command, more", [("range", []), ("join", []), ("join", ["--symmetric"])],
                         ids=["range", "join", "join both ways"])
def test_every_row_within_eps_is_found_and_no_other(folder, tmp_path, command, more, metric):
    result = support.run(line(folder, command, tmp_path / "out.h5", *more, metric=metric))
    assert result.code == 0 and result.stdout.endswith("RESULT OK\n"), result
    assert "0 ids and 0 distances differ" in result.stdout, result
    assert_is(tmp_path / "out.h5", truth(folder, command, metric, bool(more)))
    attributes = support.attributes(tmp_path / "out.h5")
    assert attributes["eps"] == EPS[metric] and "k" not in attributes
    assert attributes.get("pairs") == (None if command == "range" else "both" if more else "once")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "out.h5.report.html", "out.h5.report.json"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("command", ["range", "join"])
def test_the_matrix_is_the_same_for_any_ranks_batch_and_memory(folder, tmp_path, command, ranks):
    result = support.run(line(folder, command, tmp_path / "out.h5", "--batch", "33"), np=ranks)
    assert result.code == 0 and "0 ids and 0 distances differ" in result.stdout, result
    assert_is(tmp_path / "out.h5", truth(folder, command, "l2"))


@pytest.mark.parametrize("command", ["range", "join"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_base_beyond_memory_gives_the_same_matrix(tmp_path, command, ranks):
    random = np.random.default_rng(3)
    base = random.integers(-2, 3, (4000, 48)).astype(np.float32)
    with h5py.File(tmp_path / "base.h5", "w") as file:
        file["train"] = base
        file["test"] = base[:100]
    more = ["--queries", tmp_path / "base.h5"] if command == "range" else []
    job = [command, "--base", tmp_path / "base.h5", *more, "--eps", 110, "--threads", 1]
    whole = support.run([*job, "-o", tmp_path / "whole.h5"])
    assert whole.code == 0 and "resident" in whole.stderr, whole
    part = support.run([*job, "-o", tmp_path / "part.h5", "--memory", "1400KiB" if ranks == 1 else "700KiB", "--batch", 40], np=ranks)
    assert part.code == 0 and "streamed" in part.stderr, part
    with h5py.File(tmp_path / "whole.h5") as file, h5py.File(tmp_path / "part.h5") as other:
        assert file["indices"].size > 1000
        for name in ("indptr", "indices", "data"):
            assert (file[name][:] == other[name][:]).all()


@pytest.mark.parametrize("command", ["range", "join"])
@pytest.mark.parametrize("kind", ["block", "publishing"])
def test_what_was_killed_goes_on(folder, tmp_path, command, kind):
    output = tmp_path / "out.h5"
    job = line(folder, command, output, "--batch", 20)
    library = interrupted_job.build_library(tmp_path)
    process = interrupted_job.launch_held(library, job, output, 2, kind, 2 if kind == "block" else 1)
    for pid in support.child_pids(process):
        os.kill(pid, 9)
    assert interrupted_job.end_of(process, tmp_path) != 0 and not output.exists()
    result = support.run(job, np=3)
    assert result.code == 0 and "resuming: " in result.stderr, result
    assert_is(output, truth(folder, command, "l2"))
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".hits", *interrupted_job.LITTER))]


def test_another_eps_does_not_go_on_with_a_stopped_run(folder, tmp_path):
    output = tmp_path / "out.h5"
    job = line(folder, "join", output, "--batch", 20)
    process = interrupted_job.launch_held(interrupted_job.build_library(tmp_path), job, output, None, "block", 1)
    process.kill()
    interrupted_job.end_of(process, tmp_path)
    result = support.run([5 if part == EPS["l2"] else part for part in job])
    assert result.code == CONFIG and "eps" in support.complaints(result)[0], result
    result = support.run([*job, "--symmetric"])
    assert result.code == CONFIG and "pairs" in support.complaints(result)[0], result
    assert support.run([*job, "--symmetric", "--no-resume"]).code == 0
    assert_is(output, truth(folder, "join", "l2", True))


@pytest.mark.parametrize("more, words", [
    ([], ["eps", "missing"]), (["--eps", "nan"], ["nan", "finite"]), (["--eps", "-1"], ["-1", "never negative"]),
    (["--eps", "much"], ["much"]), (["--eps", "1e300"], ["beyond float32"]), (["--eps", "1", "-k", "5"], ["k"]),
    (["--eps", "1", "--metric", "l3"], ["l3"]), (["--eps", "1", "--queries", "q.h5"], ["queries"])])
def test_bad_options_of_a_join_are_refused(folder, tmp_path, more, words):
    result = support.run(["join", "--base", folder / "base.h5", "-o", tmp_path / "out.h5", *more])
    assert result.code == USAGE and len(support.complaints(result)) == 1, result
    for word in words:
        assert word in support.complaints(result)[0], result
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists_is_kept(folder, tmp_path):
    (tmp_path / "out.h5").write_text("mine")
    result = support.run(line(folder, "join", tmp_path / "out.h5"))
    assert result.code == CANNOT_CREATE and (tmp_path / "out.h5").read_text() == "mine", result
    assert support.run(line(folder, "join", tmp_path / "out.h5", "--overwrite")).code == 0
    assert_is(tmp_path / "out.h5", truth(folder, "join", "l2"))


def test_one_query_that_finds_more_than_memory_holds_is_named(tmp_path):
    with h5py.File(tmp_path / "base.h5", "w") as file:
        file["train"] = np.zeros((20000, 2), np.float32)
    result = support.run(["join", "--base", tmp_path / "base.h5", "--eps", 1, "--threads", 1, "--batch", 4,
                          "--memory", "1200KiB", "-o", tmp_path / "out.h5"])
    assert result.code == CONFIG and len(support.complaints(result)) == 1, result
    for word in ("query 0", "rows within eps", "--memory", "--eps"):
        assert word in support.complaints(result)[0], result
    assert [path.name for path in tmp_path.iterdir()] == ["base.h5"]
