"""The nearest neighbours of every row among the others: a sparse matrix, exact, the same for any number of ranks."""

import os

import h5py
import interrupted_job
import numpy as np
import pytest
import support

USAGE, CONFIG = 64, 78
ROWS, DIM, K = 700, 9, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small integers: many ties, rows that are there several times, and ids of their own that a graph has no use for."""
    folder = tmp_path_factory.mktemp("graph")
    random = np.random.default_rng(8)
    base = random.integers(-2, 3, (ROWS, DIM)).astype(np.float32)
    base[300:340] = base[:40]
    base[500:520] = base[3]  # more copies than K
    with h5py.File(folder / "base.h5", "w") as file:
        file["train"] = base
        file["ids"] = np.arange(ROWS, dtype=np.int64)[::-1] * 5 + 1
    return folder


def truth(folder, metric):
    """Row numbers and distances by double arithmetic over all pairs, ties by the smaller number."""
    with h5py.File(folder / "base.h5") as file:
        base = file["train"][:].astype(np.float64)
    products, norms = base @ base.T, (base * base).sum(axis=1)
    if metric == "l2":
        values, sign = norms[:, None] + norms[None, :] - 2 * products, 1
    elif metric == "ip":
        values, sign = products, -1
    else:
        lengths = norms[:, None] * norms[None, :]
        values, sign = np.where(lengths > 0, products / np.sqrt(np.where(lengths > 0, lengths, 1)), 0), -1
    values = values.astype(np.float32)
    keys = sign * values.astype(np.float64)
    np.fill_diagonal(keys, np.inf)
    order = np.argsort(keys, axis=1, kind="stable")[:, :K]
    return order, np.take_along_axis(values, order, axis=1)


def line(folder, output, *more):
    return ["graph", "--base", folder / "base.h5", "-k", K, "--threads", 1, "-o", output, *more]


def read_graph(path):
    with h5py.File(path) as file:
        return file["indptr"][:], file["indices"][:], file["data"][:]


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_graph_is_exact_and_never_has_a_row_itself(folder, tmp_path, metric):
    result = support.run(line(folder, tmp_path / "g.h5", "--metric", metric))
    assert result.code == 0 and result.stdout.endswith("RESULT OK\n"), result
    indptr, indices, data = read_graph(tmp_path / "g.h5")
    order, values = truth(folder, metric)
    assert (indptr == np.arange(ROWS + 1) * K).all()
    assert (indices.reshape(ROWS, K) == order).all()
    assert (data.reshape(ROWS, K) == values).all()
    judged = support.run(["eval", tmp_path / "g.h5", "--oracle", "0"])
    assert judged.code == 0 and f"{ROWS} right, 0 wrong" in judged.stdout, judged


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("more", [["--merge", "gather"], ["--merge", "reduce"], ["--merge", "halving"],
                                  ["--merge", "all_to_all", *support.LEAN, "--memory", "76KiB", "--batch", "32", "--checkpoint", "0"]],
                         ids=["gather", "reduce", "halving", "all_to_all, streamed"])
def test_graph_is_the_same_for_any_ranks_merge_and_memory(folder, tmp_path, ranks, more):
    if ranks == 7:
        more = [part.replace("76KiB", "73KiB") for part in more]
    result = support.run(line(folder, tmp_path / "g.h5", *more), np=ranks)
    assert result.code == 0 and "0 ids and 0 distances differ" in result.stdout, result
    assert ("streamed" in result.stderr) == ("--memory" in more), result
    _, indices, data = read_graph(tmp_path / "g.h5")
    order, values = truth(folder, "l2")
    assert (indices.reshape(ROWS, K) == order).all() and (data.reshape(ROWS, K) == values).all()


@pytest.mark.parametrize("more, kind", [(["--batch", "10"], "finished"),
                                        ([*support.LEAN, "--memory", "76KiB", "--batch", "32", "--checkpoint", "0"], "checkpoint")],
                         ids=["resident", "streamed"])
def test_graph_that_was_killed_goes_on(folder, tmp_path, more, kind):
    output = tmp_path / "g.h5"
    library = interrupted_job.build_library(tmp_path)
    process = interrupted_job.launch_held(library, line(folder, output, *more), output, 2, kind, 2)
    for pid in support.child_pids(process):
        os.kill(pid, 9)
    assert interrupted_job.end_of(process, tmp_path) != 0 and not output.exists()
    result = support.run(line(folder, output, *more), np=3)
    assert result.code == 0 and "resuming: " in result.stderr, result
    _, indices, data = read_graph(output)
    order, values = truth(folder, "l2")
    assert (indices.reshape(ROWS, K) == order).all() and (data.reshape(ROWS, K) == values).all()


def test_eval_finds_a_row_that_is_its_own_neighbour(folder, tmp_path):
    assert support.run(line(folder, tmp_path / "g.h5")).code == 0
    with h5py.File(tmp_path / "g.h5", "r+") as file:
        file["indices"][5 * K] = 5
        file["data"][5 * K] = 0
    judged = support.run(["eval", tmp_path / "g.h5", "--oracle", "0"])
    assert judged.code != 0 and "1 wrong" in judged.stdout, judged


@pytest.mark.parametrize("more, words", [(["-k", ROWS], [f"k = {ROWS}", f"{ROWS - 1} others"]),
                                         (["--queries", "q.h5"], ["queries"]),
                                         (["--queries-range", "0:5"], ["queries-range"])])
def test_what_a_graph_has_not_is_refused(folder, tmp_path, more, words):
    result = support.run(line(folder, tmp_path / "g.h5", *more))
    assert result.code == USAGE and len(support.complaints(result)) == 1, result
    for word in words:
        assert word in support.complaints(result)[0], result
    assert not (tmp_path / "g.h5").exists()


def test_graph_is_written_as_hdf5_alone(folder, tmp_path):
    result = support.run(line(folder, tmp_path / "g.npy"))
    assert result.code == USAGE and ".h5" in support.complaints(result)[0], result


def test_job_file_of_a_search_is_none_of_a_graph(folder, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text(f'base = "{folder}/base.h5"\nqueries = "q.h5"\n')
    result = support.run(["graph", "--job", job, "-o", tmp_path / "g.h5"])
    assert result.code == CONFIG and f"{job}:2" in support.complaints(result)[0], result
    result = support.run(line(folder, tmp_path / "g.h5"), env={"MPISHARDS_QUERIES": "nowhere.h5"})
    assert result.code == 0, result


def undirected(folder, metric, symmetry):
    """Row by row the ids and distances of the symmetrised graph, from sets of pairs."""
    order, values = truth(folder, metric)
    edges = {(i, int(j)): values[i, place] for i in range(ROWS) for place, j in enumerate(order[i])}
    if symmetry == "mutual":
        edges = {(i, j): value for (i, j), value in edges.items() if (j, i) in edges}
    else:
        edges.update({(j, i): value for (i, j), value in edges.items()})
    sign = 1 if metric == "l2" else -1
    rows = [[] for _ in range(ROWS)]
    for (i, j), value in edges.items():
        rows[i].append((sign * value, j, value))
    rows = [sorted(row) for row in rows]
    indptr = np.cumsum([0] + [len(row) for row in rows])
    return indptr, np.array([j for row in rows for _, j, _ in row]), np.array([v for row in rows for *_, v in row])


def assert_undirected(path, folder, metric, symmetry):
    for found, expected in zip(read_graph(path), undirected(folder, metric, symmetry)):
        assert found.shape == expected.shape and (found == expected).all()
    assert support.attributes(path)["symmetrized"] == symmetry
    left = [file.name for file in path.parent.iterdir() if file.name.endswith(interrupted_job.LITTER)]
    assert not left, left


@pytest.mark.parametrize("metric, symmetry, ranks, more", [
    ("l2", "union", 1, []), ("l2", "union", 2, [*support.LEAN, "--memory", "76KiB"]), ("ip", "union", 3, []),
    ("ip", "mutual", 7, [*support.LEAN, "--memory", "76KiB"]), ("cosine", "union", 4, []), ("cosine", "mutual", 2, [])])
def test_symmetrised_graph_has_the_edges_of_either_or_both_ends(folder, tmp_path, metric, symmetry, ranks, more):
    result = support.run(line(folder, tmp_path / "g.h5", "--metric", metric, "--symmetrize", symmetry, *more), np=ranks)
    assert result.code == 0 and result.stdout.endswith("RESULT OK\n"), result
    assert_undirected(tmp_path / "g.h5", folder, metric, symmetry)


def test_eval_reads_the_nearest_out_of_a_union_and_refuses_a_mutual_graph(folder, tmp_path):
    assert support.run(line(folder, tmp_path / "g.h5", "--symmetrize", "union")).code == 0
    judged = support.run(["eval", tmp_path / "g.h5", "--oracle", "0"])
    assert judged.code == 0 and f"{ROWS} right, 0 wrong" in judged.stdout, judged
    with h5py.File(tmp_path / "g.h5", "r+") as file:
        begin = file["indptr"][5]
        file["indices"][begin:begin + 2] = file["indices"][begin:begin + 2][::-1]
    judged = support.run(["eval", tmp_path / "g.h5", "--oracle", "0"])
    assert judged.code != 0 and "1 wrong" in judged.stdout, judged
    assert support.run(line(folder, tmp_path / "m.h5", "--symmetrize", "mutual")).code == 0
    judged = support.run(["eval", tmp_path / "m.h5", "--oracle", "0"])
    assert judged.code == 65 and "mutual" in support.complaints(judged)[0], judged


@pytest.mark.parametrize("where", ["during", "behind"])
def test_graph_that_was_killed_while_symmetrised_is_not_searched_again(folder, tmp_path, where):
    """Held behind the last searched batch, or where the undirected graph is whole and has not its place yet."""
    output = tmp_path / "g.h5"
    more = ["--batch", "350", "--symmetrize", "union"]
    library = interrupted_job.build_library(tmp_path)
    kind, count = ("finished", 2) if where == "during" else ("symmetrized", 1)
    process = interrupted_job.launch_held(library, line(folder, output, *more), output, 2, kind, count)
    for pid in support.child_pids(process):
        os.kill(pid, 9)
    assert interrupted_job.end_of(process, tmp_path) != 0 and not output.exists()
    other = support.run(line(folder, output, "--batch", "350"))
    assert other.code == CONFIG and "symmetrize was union, is absent" in support.complaints(other)[0], other
    result = support.run(line(folder, output, *more), np=3)
    assert result.code == 0 and f"resuming: {ROWS} of {ROWS} queries are answered" in result.stderr, result
    assert_undirected(output, folder, "l2", "union")
