#!/usr/bin/python3
"""Makes fashion-mnist-784-euclidean.hdf5 from Debian's package dataset-fashion-mnist.

The layout is that of ann-benchmarks: data sets `train` (60000 x 784) and `test` (10000 x 784) in float32, root
attributes distance, type, point_type and dimension. Ground truth is not in the file: `mpishards eval --oracle`
computes it. The same inputs and the same HDF5 library give the same bytes.

The pixels are checked against the checksum in datasets/catalog.tsv before anything is written, and the file appears
by rename, whole or not at all. A file that is already there and right is left alone.
"""

import argparse
import csv
import gzip
import hashlib
import os
import pathlib
import sys

import h5py
import numpy as np

NAME = "fashion-mnist-784-euclidean"
SOURCE = pathlib.Path("/usr/share/datasets/fashion-mnist")
PARTS = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}
ATTRIBUTES = {"dimension": 784, "distance": "euclidean", "point_type": "float", "type": "dense"}


def read_idx(path):
    """The images of an IDX file, one flat float32 row each."""
    with gzip.open(path) as stream:
        data = stream.read()
    magic, count, height, width = np.frombuffer(data, dtype=">i4", count=4)
    if magic != 0x803:
        sys.exit(f"{path}: magic number {magic:#x}, expected 0x803 (unsigned bytes, three dimensions)")
    pixels = np.frombuffer(data, dtype=np.uint8, offset=16)
    return pixels.reshape(count, height * width).astype("<f4")


def content_checksum(parts):
    """SHA-256 over the rows of train, then of test, as little-endian float32."""
    digest = hashlib.sha256()
    for name in PARTS:
        digest.update(np.ascontiguousarray(parts[name]))
    return digest.hexdigest()


def catalogued_checksum():
    catalog = pathlib.Path(__file__).with_name("catalog.tsv")
    with open(catalog, newline="", encoding="utf-8") as stream:
        rows = csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t")
        return next(row["sha256"] for row in rows if row["name"] == NAME)


def is_complete(path):
    try:
        with h5py.File(path, "r") as file:
            return content_checksum({name: file[name][...] for name in PARTS}) == catalogued_checksum()
    except (OSError, KeyError):
        return False


def write(path, parts):
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w", libver=("earliest", "v110")) as file:
        for name, rows in parts.items():
            file.create_dataset(name, data=rows, track_times=False)
        for name, value in ATTRIBUTES.items():
            file.attrs[name] = value
    os.replace(partial, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", default=f"build/data/{NAME}.hdf5", type=pathlib.Path)
    parser.add_argument("--source", default=SOURCE, type=pathlib.Path, help="folder of the IDX files")
    options = parser.parse_args()

    if is_complete(options.output):
        print(f"{options.output}: present, checksum right")
        return
    missing = [name for name in PARTS.values() if not (options.source / name).exists()]
    if missing:
        sys.exit(f"{options.source / missing[0]}: not found; apt-get install dataset-fashion-mnist")
    parts = {name: read_idx(options.source / file) for name, file in PARTS.items()}
    found = content_checksum(parts)
    if found != catalogued_checksum():
        sys.exit(f"{options.source}: checksum {found}, expected {catalogued_checksum()}; the package has other data")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write(options.output, parts)
    shapes = ", ".join(f"{name} {rows.shape[0]} x {rows.shape[1]}" for name, rows in parts.items())
    print(f"{options.output}: written, {shapes} float32")


if __name__ == "__main__":
    main()
