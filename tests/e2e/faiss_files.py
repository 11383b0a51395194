"""FAISS files by hand, as faiss.write_index writes them: no FAISS is needed to test that they are understood."""

import struct

import numpy as np

METRICS = {"ip": 0, "l2": 1}


def header(kind, metric, rows, d):
    return kind + struct.pack("<iqqqBi", d, rows, 1 << 20, 1 << 20, 1, METRICS[metric])


def flat(rows, metric):
    rows = np.ascontiguousarray(rows, "<f4")
    kind = b"IxF2" if metric == "l2" else b"IxFI"
    return header(kind, metric, *rows.shape) + struct.pack("<q", rows.size) + rows.tobytes()


def id_map(rows, ids, metric):
    return header(b"IxM2", metric, *rows.shape) + flat(rows, metric) + struct.pack("<q", len(ids)) + \
        np.asarray(ids, "<i8").tobytes()


def ivf(centroids, lists, metric, quantizer_metric=None):
    """lists: rows and ids of each."""
    d = centroids.shape[1]
    rows = sum(len(ids) for _, ids in lists)
    parts = [header(b"IwFl", metric, rows, d), struct.pack("<qq", len(lists), 1),
             flat(centroids, quantizer_metric or metric), struct.pack("<bq", 0, 0),
             b"ilar", struct.pack("<qq", len(lists), 4 * d), b"full", struct.pack("<q", len(lists))]
    parts += [struct.pack("<q", len(ids)) for _, ids in lists]
    for vectors, ids in lists:
        parts += [np.ascontiguousarray(vectors, "<f4").tobytes(), np.asarray(ids, "<i8").tobytes()]
    return b"".join(parts)
