"""Every file format and dtype holds the same vectors: convert, search and info agree on them."""

import json
import pathlib

import h5py
import numpy as np
import pytest
import support

K = 9
QUIET = ("-q", "--report=false")

# Formats by suffix, with the dtypes they hold.
FORMATS = {
    "h5": ("f32", "f16", "bf16", "f64", "u8", "i8"),
    "npy": ("f32", "f16", "f64", "u8", "i8"),
    "fbin": ("f32",),
    "u8bin": ("u8",),
    "i8bin": ("i8",),
    "fvecs": ("f32",),
    "bvecs": ("u8",),
}
HELD = [(suffix, dtype) for suffix, dtypes in FORMATS.items() for dtype in dtypes]


@pytest.fixture(scope="module")
def vectors():
    """Whole numbers that every dtype holds."""
    generator = np.random.default_rng(31)
    return generator.integers(0, 5, (257, 7)).astype(np.float64), generator.integers(0, 5, (11, 7)).astype(np.float64)


@pytest.fixture(scope="module")
def source(vectors, tmp_path_factory):
    base, queries = vectors
    return support.write_vectors(tmp_path_factory.mktemp("source") / "in.h5", "f32", train=base, test=queries)


def convert(source, out, *options):
    result = support.run(["convert", source, out, *options])
    assert result.code == 0, result
    return out


def write_by_hand(path, dtype, rows):
    """The formats as their makers describe them, without the program."""
    if path.suffix == ".h5":
        return support.write_vectors(path, dtype, train=rows)
    stored = rows.astype(support.DTYPES[dtype])
    if path.suffix == ".npy":
        np.save(path, stored)
    elif path.suffix.endswith("bin"):
        path.write_bytes(np.array(rows.shape, "<u4").tobytes() + stored.tobytes())
    else:
        width = np.full((len(rows), 1), rows.shape[1], "<i4").view(np.uint8)
        path.write_bytes(np.hstack([width, stored.view(np.uint8).reshape(len(rows), -1)]).tobytes())
    return path


@pytest.mark.parametrize("suffix, dtype", HELD)
def test_search_from_every_format_and_dtype(vectors, source, tmp_path, suffix, dtype):
    base, queries = vectors
    path = write_by_hand(tmp_path / f"base.{suffix}", dtype, base)
    support.search(["--base", path, "--queries", source, "-k", K, "-o", tmp_path / "out.h5", *QUIET])
    support.assert_same_bits(tmp_path / "out.h5", support.oracle(base, queries, K))


@pytest.mark.parametrize("suffix, dtype", HELD)
def test_convert_writes_what_a_hand_would(vectors, source, tmp_path, suffix, dtype):
    out = convert(source, tmp_path / f"out.{suffix}", "--dtype", dtype)
    if suffix == "h5":
        back = convert(out, tmp_path / "back.npy", "--dtype", "f32")
        assert (np.load(back) == vectors[0]).all()
    elif suffix == "npy":
        written = np.load(out)
        assert written.dtype == support.DTYPES[dtype] and (written == vectors[0]).all()
    else:
        by_hand = write_by_hand(tmp_path / f"hand.{suffix}", dtype, vectors[0])
        assert out.read_bytes() == by_hand.read_bytes()


def test_chain_through_all_formats_ends_where_it_began(source, vectors, tmp_path):
    at = source
    for step, (suffix, dtype) in enumerate(HELD):
        at = convert(at, tmp_path / f"step{step}.{suffix}", "--dtype", dtype)
    assert (np.load(convert(at, tmp_path / "end.npy", "--dtype", "f64")) == vectors[0]).all()


@pytest.mark.parametrize("suffix", FORMATS)
def test_queries_from_every_format(vectors, source, tmp_path, suffix):
    base, queries = vectors
    path = write_by_hand(tmp_path / f"queries.{suffix}", FORMATS[suffix][0], queries)
    name = f"{path}:train" if suffix == "h5" else path
    support.search(["--base", source, "--queries", name, "-k", K, "-o", tmp_path / "out.h5", *QUIET], np=2)
    support.assert_same_bits(tmp_path / "out.h5", support.oracle(base, queries, K))


@pytest.mark.parametrize("begin, end", [(0, 1), (100, 257), (13, 13)])
def test_convert_takes_a_range_of_rows(source, vectors, tmp_path, begin, end):
    out = tmp_path / "out.npy"
    result = support.run(["convert", source, out, "--rows", f"{begin}:{end}"])
    if begin == end:
        assert result.code != 0 and not out.exists(), result
    else:
        assert result.code == 0, result
        assert (np.load(out) == vectors[0][begin:end]).all()


def test_convert_names_data_sets(source, vectors, tmp_path):
    convert(f"{source}:/test", f"{tmp_path / 'out.h5'}:/deep/er/vectors")
    back = convert(f"{tmp_path / 'out.h5'}:/deep/er/vectors", tmp_path / "back.npy")
    assert (np.load(back) == vectors[1]).all()


def test_convert_keeps_what_is_there(source, tmp_path):
    out = tmp_path / "out.npy"
    out.write_text("precious")
    assert support.run(["convert", source, out]).code == 73
    assert out.read_text() == "precious"
    convert(source, out, "--overwrite")


@pytest.mark.parametrize("dtype, value", [("u8", -1), ("u8", 256), ("u8", 1.5), ("i8", 128), ("i8", -129)])
def test_convert_refuses_values_that_do_not_fit(tmp_path, dtype, value):
    rows = np.zeros((5, 3), dtype=np.float32)
    rows[3, 1] = value
    np.save(tmp_path / "in.npy", rows)
    result = support.run(["convert", tmp_path / "in.npy", tmp_path / "out.h5", "--dtype", dtype])
    assert result.code == 65 and "row 3" in result.stderr, result
    assert not (tmp_path / "out.h5").exists()


def test_convert_takes_own_ids_along(vectors, source, tmp_path):
    """A search in the copy answers with the ids, as one in the original."""
    base, queries = vectors
    ids = 7 * np.arange(len(base))[::-1]
    path = support.write_vectors(tmp_path / "in.h5", "f32", ids=ids, train=base)
    copy = convert(path, f"{tmp_path / 'copy.h5'}:/deep/vectors", "--rows", "50:200")
    with h5py.File(tmp_path / "copy.h5") as file:
        assert (file["deep/ids"][...] == ids[50:200]).all() and file["deep/ids"].dtype == np.int64
    support.search(["--base", copy, "--queries", source, "-k", 1, "-o", tmp_path / "out.h5", *QUIET])
    rows = ids[50:200]
    neighbors, distances = support.oracle(base[50:200], queries, 150)
    nearest = distances == distances[:, :1]
    smallest = [rows[row[tied]].min() for row, tied in zip(neighbors, nearest)]
    support.assert_same_bits(tmp_path / "out.h5", (np.array(smallest)[:, None], distances[:, :1]))


def test_convert_says_that_it_leaves_own_ids_behind(vectors, tmp_path):
    path = support.write_vectors(tmp_path / "in.h5", "f32", ids=7 * np.arange(len(vectors[0])), train=vectors[0])
    result = support.run(["convert", path, tmp_path / "out.npy"])
    assert result.code == 0 and "ids of its own" in result.stderr and "row numbers" in result.stderr, result


def test_ids_beside_base_and_queries_belong_to_the_base(vectors, tmp_path):
    """One file with train, test and ids: the queries have no ids, and need none."""
    base, queries = vectors
    ids = 7 * np.arange(len(base))
    path = support.write_vectors(tmp_path / "in.h5", "f32", ids=ids, train=base, test=queries)
    support.search(["--base", path, "--queries", path, "-k", K, "-o", tmp_path / "out.h5", *QUIET], np=2)
    neighbors, distances = support.oracle(base, queries, K)
    support.assert_same_bits(tmp_path / "out.h5", (ids[neighbors], distances))
    described = json.loads(support.run(["info", path, "--json"]).stdout)
    assert "expected one for each" not in json.dumps(described)


def test_wrong_number_of_ids_is_refused_for_the_base(vectors, tmp_path):
    base, queries = vectors
    path = support.write_vectors(tmp_path / "in.h5", "f32", ids=np.arange(len(base) - 1), train=base, test=queries)
    refused = support.run(["search", "--base", path, "--queries", path, "-o", tmp_path / "out.h5"])
    assert refused.code == 65 and "256 ids" in refused.stderr and "257 rows" in refused.stderr, refused


@pytest.mark.parametrize("suffix, dtype", HELD)
def test_info_says_shape_and_dtype(vectors, tmp_path, suffix, dtype):
    path = write_by_hand(tmp_path / f"in.{suffix}", dtype, vectors[0])
    printed = support.run(["info", path])
    assert printed.code == 0 and f"257 x 7 {dtype}" in printed.stdout, printed
    report = json.loads(support.run(["info", path, "--json"]).stdout)
    text = json.dumps(report)
    assert '"rows": 257' in text and '"cols": 7' in text and f'"dtype": "{dtype}"' in text


def test_info_stats_are_those_of_the_values(tmp_path):
    rows = np.array([[0, 0], [3, 4], [np.nan, 1], [-5, 12]], dtype=np.float32)
    np.save(tmp_path / "in.npy", rows)
    text = support.run(["info", tmp_path / "in.npy", "--stats"]).stdout
    assert "-5" in text and "13" in text, text


@pytest.mark.parametrize("suffix", ["h5", "npy", "ibin"])
def test_info_and_eval_read_results(source, vectors, tmp_path, suffix):
    out = tmp_path / f"out.{suffix}"
    support.search(["--base", source, "--queries", source, "-k", K, "-o", out, "-q"])
    judged = support.run(["eval", out, "--oracle", "all"])
    assert judged.code == 0 and judged.stdout.splitlines()[-1] == "RESULT OK", judged
    if suffix == "npy":
        out = pathlib.Path(f"{out.with_suffix('')}.neighbors.npy")
    described = support.run(["info", out])
    assert described.code == 0, described
    if suffix == "h5":
        assert f"11 x {K}" in described.stdout and "metric" in described.stdout, described


def test_json_of_every_command_parses(source, tmp_path):
    out = tmp_path / "out.h5"
    searched = support.search(["--base", source, "--queries", source, "-k", K, "-o", out, "--json"], np=2)
    assert json.loads(searched.stdout)["results"] == [str(out)]
    for arguments in (["info", source, "--json"], ["info", out, "--json", "--stats"], ["eval", out, "--oracle", 5, "--json"],
                      ["eval", out, out, "--json"], ["convert", source, tmp_path / "c.npy", "--json"],
                      ["doctor", "--json"], ["version", "--json"],
                      ["plan", "--rows", "1M", "--dim", 64, "--queries", 1000, "-k", 10, "--json"]):
        result = support.run(arguments)
        assert result.code in (0, 69 if arguments[0] == "doctor" else 0), result
        command = "eval-oracle" if "--oracle" in arguments else arguments[0]
        assert json.loads(result.stdout)["schema"] == f"mpishards.{command}/1", result
