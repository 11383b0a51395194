"""What lies in the lists of an index, and the best of it by double arithmetic: an oracle of its own."""

import h5py
import numpy as np


def rows_by_list(directory):
    """Centroids, and for every list the vectors and ids of its rows, as float64."""
    with h5py.File(directory / "lists.h5") as file:
        centroids, starts = file["centroids"][:].astype(np.float64), file["list_starts"][:]
    vectors, ids = [], []
    for path in sorted(directory.glob("shard-*.h5")):
        with h5py.File(path) as file:
            vectors.append(file["train"][:].astype(np.float64))
            ids.append(file["ids"][:])
    vectors, ids = np.concatenate(vectors), np.concatenate(ids)
    cuts = list(zip(starts[:-1], starts[1:]))
    return centroids, [vectors[a:b] for a, b in cuts], [ids[a:b] for a, b in cuts]


def scores(metric, query, rows):
    if metric == "l2":
        return ((rows - query) ** 2).sum(axis=1)
    products = rows @ query
    if metric == "ip":
        return products
    lengths = np.sqrt((rows * rows).sum(axis=1) * (query @ query))
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def best(metric, values, ids, k):
    rounded = values.astype(np.float32)
    order = np.lexsort((ids, rounded if metric == "l2" else -rounded))[:k]
    return ids[order], rounded[order]
