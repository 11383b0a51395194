"""datasets/make_fashion_mnist.py: layout, repeatability, and no file from wrong images."""

import gzip
import pathlib
import subprocess

import h5py
import numpy as np
import pytest
import support

SCRIPT = support.ROOT / "datasets/make_fashion_mnist.py"
SOURCE = pathlib.Path("/usr/share/datasets/fashion-mnist")


def make(output, *arguments):
    return subprocess.run(["/usr/bin/python3", str(SCRIPT), str(output), *map(str, arguments)], text=True, check=False,
                          capture_output=True, timeout=120)


@pytest.mark.skipif(not SOURCE.is_dir(), reason="package dataset-fashion-mnist is not installed")
def test_file_has_the_layout_of_ann_benchmarks_and_is_made_once(tmp_path):
    output = tmp_path / "fashion.hdf5"
    done = make(output)
    assert done.returncode == 0, done.stderr
    with h5py.File(output) as file:
        assert file["train"].shape == (60000, 784) and file["test"].shape == (10000, 784)
        assert file["train"].dtype == np.float32 and file["test"].dtype == np.float32
        assert file.attrs["distance"] == "euclidean" and file.attrs["dimension"] == 784
        assert 0 <= file["test"][...].min() and file["test"][...].max() == 255
    before = output.stat()
    assert make(output).returncode == 0
    assert output.stat().st_mtime_ns == before.st_mtime_ns and output.stat().st_ino == before.st_ino
    assert list(tmp_path.iterdir()) == [output]


def write_images(path, count):
    header = np.array([0x803, count, 28, 28], dtype=">i4").tobytes()
    with gzip.open(path, "wb") as stream:
        stream.write(header + bytes(count * 784))


def test_other_images_are_refused_and_nothing_is_written(tmp_path):
    write_images(tmp_path / "train-images-idx3-ubyte.gz", 3)
    write_images(tmp_path / "t10k-images-idx3-ubyte.gz", 2)
    done = make(tmp_path / "out.hdf5", "--source", tmp_path)
    assert done.returncode != 0 and "checksum" in done.stderr
    assert not list(tmp_path.glob("out*"))


def test_missing_package_is_named(tmp_path):
    done = make(tmp_path / "out.hdf5", "--source", tmp_path)
    assert done.returncode != 0 and "apt-get install dataset-fashion-mnist" in done.stderr


@pytest.mark.skipif(not SOURCE.is_dir(), reason="package dataset-fashion-mnist is not installed")
def test_damaged_file_is_made_again(tmp_path):
    output = tmp_path / "fashion.hdf5"
    output.write_bytes(b"not HDF5")
    done = make(output)
    assert done.returncode == 0, done.stderr
    with h5py.File(output) as file:
        assert file["train"].shape == (60000, 784)
