"""Inputs of range and join with many ties, and their answers by numpy in double precision over all pairs."""

import h5py
import numpy as np

ROWS, QUERIES, DIM = 700, 90, 9
EPS = {"l2": 6, "ip": 9, "cosine": 0.75}  # of small integers: many pairs sit exactly on 6 and 9
FORMS = {"range": ("range", []), "join": ("join", []), "join both ways": ("join", ["--symmetric"])}


def write_vectors(folder):
    """Small integers: many ties, rows that are there several times, and ids of their own."""
    random = np.random.default_rng(8)
    base = random.integers(-2, 3, (ROWS, DIM)).astype(np.float32)
    base[300:340] = base[:40]
    base[7] = 0
    queries = random.integers(-2, 3, (QUERIES, DIM)).astype(np.float32)
    with h5py.File(folder / "base.h5", "w") as file:
        file["train"] = base
        file["test"] = queries
        file["ids"] = np.arange(ROWS, dtype=np.int64)[::-1] * 5 + 1


def values_between(queries, base, metric="l2"):
    """Distance or similarity of every pair, summed in double, rounded once."""
    queries, base = queries.astype(np.float64), base.astype(np.float64)
    products, squares, own = queries @ base.T, (base * base).sum(axis=1), (queries * queries).sum(axis=1)
    if metric == "l2":
        values = own[:, None] + squares[None, :] - 2 * products
    elif metric == "ip":
        values = products
    else:
        lengths = own[:, None] * squares[None, :]
        values = np.where(lengths > 0, products / np.sqrt(np.where(lengths > 0, lengths, 1)), 0)
    return values.astype(np.float32)


def matrix_of(queries, base, ids, eps, metric="l2", pairs="all"):
    """indptr, indices and data of all rows within eps; of a join those of later rows ("once") or of others ("both")."""
    values = values_between(queries, base, metric)
    near = values <= np.float32(eps) if metric == "l2" else values >= np.float32(eps)
    if pairs == "once":
        near = np.triu(near, 1)
    elif pairs == "both":
        near &= ~np.eye(len(base), dtype=bool)
    indptr, indices, data = [0], [], []
    for row, hits in enumerate(near):
        keys = values[row, hits] if metric == "l2" else -values[row, hits]
        order = np.lexsort((ids[hits], keys))
        indices.extend(ids[hits][order])
        data.extend(values[row, hits][order])
        indptr.append(len(indices))
    return np.array(indptr), np.array(indices), np.array(data, np.float32)


def truth(folder, form, metric="l2"):
    """What the file that write_vectors made gives under EPS."""
    with h5py.File(folder / "base.h5") as file:
        base, queries, ids = file["train"][:], file["test"][:], file["ids"][:]
    if form == "range":
        return matrix_of(queries, base, ids, EPS[metric], metric)
    return matrix_of(base, base, np.arange(ROWS), EPS[metric], metric, "once" if form == "join" else "both")


def line(folder, form, output, *more, metric="l2"):
    """The command line for it."""
    vectors = folder / "base.h5"
    command, options = FORMS[form]
    inputs = ["--queries", f"{vectors}:/test"] if command == "range" else []
    return [command, "--base", f"{vectors}:/train", *inputs, *options, "--metric", metric, "--eps", EPS[metric],
            "--threads", 1, "-o", output, *more]


def assert_is(path, wanted):
    with h5py.File(path) as file:
        for name, array, dtype in zip(["indptr", "indices", "data"], wanted, [np.int64, np.int64, np.float32]):
            assert file[name].dtype == dtype and file[name].shape == array.shape, name
            assert (file[name][:] == array).all(), name


def clusters_of(matrix):
    """component and keep of a join's rows, by walks along its pairs in plain Python."""
    indptr, indices, _ = matrix
    rows = len(indptr) - 1
    near, keep = [set() for _ in range(rows)], np.ones(rows, np.uint8)
    for a in range(rows):
        for b in indices[indptr[a]:indptr[a + 1]]:
            near[a].add(b)
            near[b].add(a)
            keep[max(a, b)] = 0
    component = np.full(rows, -1, np.int64)
    for first in range(rows):
        front = [first] if component[first] < 0 else []
        while front:
            row = front.pop()
            if component[row] < 0:
                component[row] = first
                front.extend(near[row])
    return component, keep


def assert_clusters(path, matrix):
    """component, keep and what the attributes count of them."""
    component, keep = clusters_of(matrix)
    sizes = np.bincount(component)
    assert (sizes > 1).sum() > 2 and len(component) > sizes.max() > 2 and (keep == 0).sum() > 10
    with h5py.File(path) as file:
        assert file["component"].dtype == np.int64 and (file["component"][:] == component).all()
        assert file["keep"].dtype == np.uint8 and (file["keep"][:] == keep).all()
        counts = [file.attrs[name] for name in ("clusters", "largest_cluster", "removed_rows")]
    assert counts == [(sizes > 1).sum(), sizes.max(), (keep == 0).sum()]
