"""Bad input: one line of cause and remedy, the right exit code on every rank, nothing lost, nothing left behind.

Every case runs on one rank without a launcher and on three ranks. The folder is compared before and after: names,
bytes and modification times.
"""

import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import time

import h5py
import interrupted_job
import numpy as np
import pytest
import support

RANKS = [None, 3]
PROMPT_SECONDS = 60
USAGE, DATA, MISSING, CANNOT_CREATE, IO, PERMISSION, CONFIG = 64, 65, 66, 73, 74, 77, 78
ROWS, DIM, QUERIES = 50, 8, 6

# Each rank under a shell that writes its exit code down, and ends after all have done so: the first failure that
# mpirun sees makes it kill the other ranks.
RECORD_CODES = """"$@"; code=$?; own=$OMPI_COMM_WORLD_RANK
echo $code >"$CODES/.$own"; mv "$CODES/.$own" "$CODES/$own"  # whole at once: the others count the files
tries=0
while [ "$(ls "$CODES" | wc -l)" -lt "$OMPI_COMM_WORLD_SIZE" ] && [ $tries -lt 600 ]; do
  sleep 0.05; tries=$((tries + 1))
done
exit $code"""


def vectors(rows, dim=DIM, seed=1):
    return np.random.default_rng(seed).integers(-9, 10, size=(rows, dim)).astype(np.float32)


@pytest.fixture
def good(tmp_path):
    """A folder with a base and queries that fit, and an output to name."""
    work = tmp_path / "work"
    work.mkdir()
    support.write_h5(work / "base.h5", train=vectors(ROWS))
    support.write_h5(work / "queries.h5", test=vectors(QUERIES, seed=2))
    return work


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """What holds a job at a chosen point, to preload."""
    return interrupted_job.build_library(tmp_path_factory.mktemp("library"))


def run_recording_codes(arguments, ranks, codes_folder, env=None):
    """As support.run, but for several ranks the exit code of each is known too."""
    if ranks is None:
        result = support.run(arguments, timeout=PROMPT_SECONDS, env=env)
        return result, [result.code]
    codes_folder.mkdir()
    line = ["mpirun", "-n", str(ranks), "sh", "-c", RECORD_CODES, "sh", support.PROGRAM, *map(str, arguments)]
    began = time.monotonic()
    # All ranks have ended when mpirun sees the first code: there is nothing to wait for before it cleans up.
    settings = {"CODES": codes_folder, "OMPI_MCA_odls_base_sigkill_timeout": 0, **(env or {})}
    with subprocess.Popen(line, env=support.environment(settings), text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True, errors="replace") as process:
        try:
            stdout, stderr = process.communicate(timeout=PROMPT_SECONDS)
        except subprocess.TimeoutExpired:
            support.kill_group(process)
            raise AssertionError(f"still running after {PROMPT_SECONDS} s: {line}") from None
    result = support.Result(process.returncode, stdout, stderr, time.monotonic() - began)
    deadline = time.monotonic() + 5
    while len(list(codes_folder.iterdir())) < ranks and time.monotonic() < deadline:
        time.sleep(0.02)
    return result, [int(path.read_text() or -1) for path in sorted(codes_folder.iterdir())]


def assert_refused(arguments, ranks, folder, code, *words, env=None):
    """The run fails with `code` on every rank, one line that has all `words`, and an untouched folder."""
    before = support.snapshot(folder)
    result, codes = run_recording_codes(arguments, ranks, folder.parent / "codes", env)
    assert result.code == code, result
    assert codes == [code] * (ranks or 1), f"{codes}\n{result}"
    lines = support.complaints(result)
    assert len(lines) == 1, result
    assert re.match(r"mpishards: [A-Za-z/ ]+: \S", lines[0]), lines[0]
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"
    assert support.snapshot(folder) == before, f"left or changed: {set(support.snapshot(folder)) ^ set(before)}\n{result}"
    support.assert_no_orphans(str(folder))
    return lines[0]


def search_line(work, *more, base=None, queries=None, output=None, k=3):
    return ["search", "--base", base or work / "base.h5", "--queries", queries or work / "queries.h5", "-k", k, "-o",
            output or work / "out.h5", *more]


# --- what the vectors say

@pytest.mark.parametrize("ranks", RANKS)
def test_dimensions_that_differ(good, ranks):
    support.write_h5(good / "wide.h5", test=vectors(QUERIES, DIM + 1))
    assert_refused(search_line(good, queries=good / "wide.h5"), ranks, good, DATA, "queries.d = 9", "base.d = 8",
                   "wide.h5", "base.h5")


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_base_value_that_is_not_finite_is_named_with_file_and_row(good, ranks, value):
    rows = vectors(ROWS)
    rows[37, 5] = value
    support.write_h5(good / "bad.h5", train=rows)
    assert_refused(search_line(good, base=good / "bad.h5"), ranks, good, DATA, "bad.h5", "row 37", "--nonfinite drop")


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_query_value_that_is_not_finite_is_named_with_file_and_row(good, ranks, value):
    rows = vectors(QUERIES)
    rows[4, 0] = value
    support.write_h5(good / "bad.h5", test=rows)
    assert_refused(search_line(good, queries=good / "bad.h5"), ranks, good, DATA, "bad.h5", "row 4")


@pytest.mark.parametrize("ranks", RANKS)
def test_row_numbers_of_several_files_are_those_of_the_file(good, ranks):
    rows = vectors(20)
    rows[11, 3] = np.nan
    support.write_h5(good / "second.h5", train=rows)
    assert_refused([*search_line(good), "--base", good / "second.h5"], ranks, good, DATA, "second.h5", "row 11")


@pytest.mark.parametrize("ranks", RANKS)
def test_nonfinite_drop_searches_the_rest_and_counts(good, ranks):
    rows = vectors(ROWS)
    rows[7, 1] = np.nan
    rows[40, 2] = np.inf
    support.write_h5(good / "bad.h5", train=rows)
    support.search(search_line(good, "--nonfinite", "drop", base=good / "bad.h5")[1:], np=ranks)
    assert support.attributes(good / "out.h5")["dropped_rows"] == 2
    kept = np.delete(np.arange(ROWS), [7, 40])
    expected, distances = support.oracle(rows[kept], vectors(QUERIES, seed=2), 3)
    neighbors, found = support.read_result(good / "out.h5")
    assert (neighbors == kept[expected]).all() and (found == distances).all()


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one(good, ranks, k):
    assert_refused(search_line(good, k=k), ranks, good, USAGE, "k", str(k), "smallest value, 1")


@pytest.mark.parametrize("ranks", RANKS)
def test_k_above_the_rows_is_padded(good, ranks):
    result = support.search(search_line(good, k=ROWS + 5)[1:], np=ranks)
    assert "padded" in result.stderr
    neighbors, distances = support.read_result(good / "out.h5")
    assert (neighbors[:, ROWS:] == -1).all() and np.isposinf(distances[:, ROWS:]).all()
    support.assert_exact(good / "out.h5", vectors(ROWS), vectors(QUERIES, seed=2), ROWS + 5)


def test_more_ranks_than_rows(good):
    support.write_h5(good / "two.h5", train=vectors(2))
    support.search(search_line(good, base=good / "two.h5")[1:], np=4)
    support.assert_exact(good / "out.h5", vectors(2), vectors(QUERIES, seed=2), 3)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("role", ["base", "queries"])
@pytest.mark.parametrize("suffix", ["h5", "fbin", "npy", "fvecs"])
def test_input_without_rows(good, ranks, role, suffix):
    path = good / f"none.{suffix}"
    if suffix == "h5":
        support.write_h5(path, train=np.zeros((0, DIM), np.float32), test=np.zeros((0, DIM), np.float32))
    elif suffix == "fbin":
        path.write_bytes(np.array([0, DIM], np.uint32).tobytes())
    elif suffix == "npy":
        np.save(path, np.zeros((0, DIM), np.float32))
    else:
        path.write_bytes(b"")
    shape = "" if suffix == "fvecs" else f"0 x {DIM} f32"
    assert_refused(search_line(good, **{role: path}), ranks, good, DATA, path.name, "is empty", shape)


@pytest.mark.parametrize("ranks", RANKS)
def test_several_bases_of_different_dimension(good, ranks):
    support.write_h5(good / "wide.h5", train=vectors(5, DIM + 2))
    assert_refused([*search_line(good), "--base", good / "wide.h5"], ranks, good, DATA, "wide.h5", "base.h5", "8",
                   "10")


@pytest.mark.parametrize("ranks", RANKS)
def test_queries_range_outside_the_file(good, ranks):
    assert_refused(search_line(good, "--queries-range", "2:99"), ranks, good, USAGE, "2:99", f"{QUERIES} rows")


# --- what the files are

@pytest.mark.parametrize("ranks", RANKS)
def test_missing_data_set_lists_those_there_are(good, ranks):
    support.write_h5(good / "others.h5", vectors=vectors(4), learn=vectors(4))
    assert_refused(search_line(good, base=f"{good}/others.h5:/train"), ranks, good, MISSING, "others.h5", "/train",
                   "/vectors", "/learn")


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", ["missing.h5", "missing.fbin", "nowhere/missing.npy", "none*.h5", "@list.txt"])
def test_missing_file(good, ranks, name):
    shown = name.lstrip("@")
    path = f"@{good}/{shown}" if name.startswith("@") else good / name
    assert_refused(search_line(good, base=path), ranks, good, MISSING, shown)


def truncated(path):
    """Writes a good file in the format of the suffix and cuts its end off."""
    rows = vectors(ROWS)
    if path.suffix == ".h5":
        support.write_h5(path, train=rows)
    elif path.suffix == ".fbin":
        path.write_bytes(np.array(rows.shape, np.uint32).tobytes() + rows.tobytes())
    elif path.suffix == ".npy":
        np.save(path, rows)
    else:
        headed = np.hstack([np.full((ROWS, 1), DIM, np.int32), rows.view(np.int32)])
        path.write_bytes(headed.tobytes())
    os.truncate(path, path.stat().st_size - 102)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", ["cut.h5", "cut.fbin", "cut.fvecs", "cut.npy"])
def test_truncated_file(good, ranks, name):
    truncated(good / name)
    assert_refused(search_line(good, base=good / name), ranks, good, DATA, name)


def lying_fbin(path):
    path.write_bytes(np.array([4_000_000_000, 3_000_000], np.uint32).tobytes() + b"x" * 4096)


def lying_fvecs(path):
    path.write_bytes(np.array([2_000_000_000], np.int32).tobytes() + b"x" * 4096)


def negative_fvecs(path):
    path.write_bytes(np.array([-8], np.int32).tobytes() + b"x" * 4096)


def lying_npy(path):
    np.save(path, vectors(4))
    path.write_bytes(path.read_bytes().replace(b"(4, 8)", b"(9e18,"[:6]))


def huge_npy(path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000000, 8), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + np.uint16(len(header)).tobytes() + header + b"x" * 4096)


def mixed_fvecs(path):
    row = np.array([8], np.int32).tobytes() + vectors(1).tobytes()
    short = np.array([4], np.int32).tobytes() + vectors(1, 4).tobytes()
    path.write_bytes(row * 3 + short + row * 2)


def text(path):
    path.write_text("id,x,y\n1,2,3\n" * 400)


def zeros(path):
    path.write_bytes(bytes(4096))


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("make, suffix", [
    (lying_fbin, "fbin"), (lying_fvecs, "fvecs"), (negative_fvecs, "fvecs"), (lying_npy, "npy"), (huge_npy, "npy"),
    (mixed_fvecs, "fvecs"), (text, "h5"), (text, "npy"), (text, "fbin"), (text, "fvecs"), (zeros, "h5"),
    (zeros, "fvecs")])
def test_file_that_is_not_what_its_name_or_header_says(good, ranks, make, suffix):
    path = good / f"{make.__name__}.{suffix}"
    make(path)
    assert_refused(search_line(good, base=path), ranks, good, DATA, path.name)


@pytest.mark.parametrize("ranks", RANKS)
def test_folder_instead_of_a_file(good, ranks):
    (good / "folder.h5").mkdir()
    line = search_line(good, base=good / "folder.h5")
    assert "folder" in assert_refused(line, ranks, good, DATA, "folder.h5")


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("dtype", ["complex64", "S8", "int16", "compound"])
def test_type_that_is_none_of_vectors(good, ranks, dtype):
    kind = np.dtype([("x", "f4"), ("y", "f4")]) if dtype == "compound" else np.dtype(dtype)
    with h5py.File(good / "odd.h5", "w") as file:
        file.create_dataset("train", data=np.zeros((5, DIM), kind))
    assert_refused(search_line(good, base=good / "odd.h5"), ranks, good, DATA, "odd.h5", "train")


@pytest.mark.parametrize("ranks", RANKS)
def test_data_set_that_is_no_matrix(good, ranks):
    support.write_h5(good / "cube.h5", train=np.zeros((5, 4, 2), np.float32))
    assert_refused(search_line(good, base=good / "cube.h5"), ranks, good, DATA, "cube.h5", "train")


@pytest.mark.parametrize("ranks", RANKS)
def test_unknown_suffix(good, ranks):
    (good / "vectors.xyz").write_bytes(b"1234")
    line = search_line(good, base=good / "vectors.xyz")
    before = support.snapshot(good)
    result, codes = run_recording_codes(line, ranks, good.parent / "codes")
    assert result.code in (USAGE, DATA) and set(codes) == {result.code}, result
    assert len(support.complaints(result)) == 1 and "vectors.xyz" in support.complaints(result)[0], result
    assert support.snapshot(good) == before


def fault_with(path, work):
    """What info or search of a file do wrong, as text; empty when both end as they should."""
    faults = ""
    for arguments in (["info", path], ["search", "--base", path, "--queries", path, "-q", "-o", work / "out.h5"]):
        try:
            result = support.run(arguments, timeout=PROMPT_SECONDS)
        except AssertionError as error:
            faults += f"{error}\n"
            continue
        if result.code not in (0, USAGE, DATA, MISSING, IO):
            faults += f"{arguments[0]} {path.name}: {result}\n"
        if result.code != 0 and (len(support.complaints(result)) != 1 or list(work.iterdir())):
            faults += f"{arguments[0]} {path.name} leaves {list(work.iterdir())} and says {result}\n"
    return faults


def test_damaged_files_end_within_seconds_by_info_and_search(data, tmp_path):
    """The program survives what kills the HDF5 library: it ends with a code of its own, soon, and says why."""
    paths = sorted((data / "robustness").iterdir())
    folders = [tmp_path / path.name for path in paths]
    for folder in folders:
        folder.mkdir()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        faults = [fault for fault in pool.map(fault_with, paths, folders) if fault]
    assert not faults, "\n".join(faults)
    support.assert_no_orphans(tmp_path)


# --- where the output goes

@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("place", ["nowhere/out.h5", "base.h5/out.h5", "folder"])
def test_output_that_cannot_be_made(good, ranks, place):
    (good / "folder").mkdir()
    assert_refused(search_line(good, output=good / place), ranks, good, CANNOT_CREATE, place)


@pytest.fixture
def mounted(tmp_path):
    """mounted(options) makes a small file system of its own; only root can do that."""
    places = []

    def mount(*options):
        place = tmp_path / f"mounted{len(places)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", place], check=False,
                              capture_output=True)
        if done.returncode != 0:
            pytest.skip("this test mounts a file system: it needs root")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("ranks", RANKS)
def test_output_on_a_read_only_file_system(good, ranks, mounted):
    place = mounted("size=1m", "ro")
    result = support.run(search_line(good, output=place / "out.h5"), np=ranks, timeout=PROMPT_SECONDS)
    assert result.code in (CANNOT_CREATE, PERMISSION), result
    assert len(support.complaints(result)) == 1 and str(place) in support.complaints(result)[0], result
    assert not list(place.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_folder_without_permission(good):
    (good / "locked").mkdir(mode=0o555)
    assert_refused(search_line(good, output=good / "locked/out.h5"), None, good, PERMISSION, "locked")


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("free", [0, 40_000])
@pytest.mark.parametrize("suffix", ["h5", "npy", "ibin"])
def test_disk_full_is_known_before_the_search(good, ranks, mounted, free, suffix):
    place = mounted("size=64k")
    (place / "precious").write_bytes(b"p" * (65536 - 4096 * ((free + 4095) // 4096)))
    support.write_h5(good / "many.h5", test=vectors(2000))
    line = search_line(good, queries=good / "many.h5", output=place / f"out.{suffix}", k=20)
    before = support.snapshot(place)
    result = support.run(line, np=ranks, timeout=PROMPT_SECONDS)
    assert result.code in (CANNOT_CREATE, IO), result
    assert len(support.complaints(result)) == 1 and re.search("space|disk full", support.complaints(result)[0]), result
    assert support.snapshot(place) == before, result


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("suffix, taken", [("h5", "out.h5"), ("npy", "out.neighbors.npy"), ("npy", "out.distances.npy"),
                                           ("ibin", "out.ibin")])
def test_output_that_exists_is_not_touched(good, ranks, suffix, taken):
    (good / taken).write_text("precious")
    assert_refused(search_line(good, output=good / f"out.{suffix}"), ranks, good, CANNOT_CREATE, taken, "exists",
                   "--overwrite")


@pytest.mark.parametrize("ranks", RANKS)
def test_overwrite_that_fails_keeps_the_old_result(good, ranks):
    (good / "out.h5").write_text("precious")
    rows = vectors(ROWS)
    rows[3, 3] = np.nan
    support.write_h5(good / "bad.h5", train=rows)
    assert_refused(search_line(good, "--overwrite", base=good / "bad.h5"), ranks, good, DATA, "row 3")


def test_overwrite_replaces(good):
    (good / "out.h5").write_text("old")
    support.search([*search_line(good)[1:], "--overwrite"])
    support.assert_exact(good / "out.h5", vectors(ROWS), vectors(QUERIES, seed=2), 3)


def test_second_job_on_one_output_is_sent_away(good, library):
    """The second job ends with 73 while the first one runs on, undisturbed."""
    support.write_h5(good / "big.h5", train=vectors(ROWS), test=vectors(300, seed=3))
    line = search_line(good, "--batch", 10, queries=f"{good}/big.h5:/test")
    first = interrupted_job.launch_held(library, line, good / "out.h5", ranks=2)
    try:
        second = support.run(line, np=2, timeout=PROMPT_SECONDS)
        assert second.code == CANNOT_CREATE, second
        assert len(support.complaints(second)) == 1 and "is being written by process" in support.complaints(second)[0], second
        third = support.run([*line, "--no-resume", "--overwrite"], timeout=PROMPT_SECONDS)
        assert third.code == CANNOT_CREATE, third
        interrupted_job.let_go(first, ranks=2)
        assert first.wait(timeout=120) == 0, first.stderr.read()
    finally:
        support.kill_group(first)
        first.wait()
    support.assert_exact(good / "out.h5", vectors(ROWS), vectors(300, seed=3), 3)


# --- what a stopped run left

@pytest.fixture
def stopped(good, library):
    """A run that was killed in the middle; returns its folder and command line."""
    support.write_h5(good / "big.h5", test=vectors(2000, seed=3))
    line = search_line(good, "--batch", 10, queries=good / "big.h5")
    process = interrupted_job.launch_held(library, line, good / "out.h5", ranks=None)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (good / "out.h5.lock").unlink()
    return good, line


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("more, words", [(["-k", 4], ["k was 3, is 4"]), (["--metric", "ip"], ["metric was l2, is ip"]),
                                         (["--queries-range", "0:1999"], ["queries range was 0:2000"])])
def test_resume_with_another_parameter_is_refused(stopped, ranks, more, words):
    work, line = stopped
    replaced = [*line, *more] if more[0] != "-k" else search_line(work, "--batch", 10, queries=work / "big.h5", k=4)
    (work / "out.h5.lock").touch()  # so that the folder can be compared: a lock that nobody holds comes and goes
    before = {name: value for name, value in support.snapshot(work).items() if not name.endswith(".lock")}
    result, codes = run_recording_codes(replaced, ranks, work.parent / "codes")
    assert result.code == CONFIG and codes == [CONFIG] * (ranks or 1), result
    assert len(support.complaints(result)) == 1, result
    for word in [*words, "--no-resume"]:
        assert word in support.complaints(result)[0]
    assert {name: value for name, value in support.snapshot(work).items() if not name.endswith(".lock")} == before


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("role, name", [("base", "base.h5"), ("queries", "big.h5")])
def test_resume_with_a_changed_input_is_refused(stopped, ranks, role, name):
    work, line = stopped
    with h5py.File(work / name, "r+") as file:
        rows = file["train" if name == "base.h5" else "test"]
        rows[1, 1] = rows[1, 1] + 1
    assert_refused(line, ranks, work, CONFIG, role, "was", "--no-resume")


def test_resume_with_contents_changed_behind_an_old_modification_time_is_refused(stopped):
    work, line = stopped
    before = (work / "big.h5").stat()
    with h5py.File(work / "big.h5", "r+") as file:
        file["test"][1234, 1] = 77
    os.utime(work / "big.h5", ns=(before.st_atime_ns, before.st_mtime_ns))
    result = support.run(line, timeout=PROMPT_SECONDS)
    assert result.code == CONFIG and "queries" in support.complaints(result)[0], result
    assert not (work / "out.h5").exists()


@pytest.mark.parametrize("ranks", RANKS)
def test_damaged_journal_is_refused_and_no_resume_starts_over(stopped, ranks):
    work, line = stopped
    journal = work / "out.h5.journal"
    damaged = bytearray(journal.read_bytes())
    damaged[damaged.index(b'"finished"') + 2] ^= 1
    journal.write_bytes(damaged)
    assert_refused(line, ranks, work, DATA, "out.h5.journal", "damaged", "line", "--no-resume")
    support.search([*line[1:], "--no-resume"], np=ranks)
    support.assert_exact(work / "out.h5", vectors(ROWS), vectors(2000, seed=3), 3)
    assert not [name for name in support.snapshot(work) if name.endswith((".journal", ".partial", ".lock"))]


def test_failure_of_one_rank_alone_is_everybodys(good):
    """A base that one rank cannot read: it is gone for that rank, by a name that only its environment leads to."""
    support.write_h5(good / "other.h5", train=vectors(ROWS + 1))
    own = 'ln -sfn "$WORK/$([ "$OMPI_COMM_WORLD_RANK" = 2 ] && echo other.h5 || echo base.h5)" "$PWD/seen.h5"; exec "$@"'
    places = good.parent / "places"
    wrapped = f'mkdir -p "{places}/$OMPI_COMM_WORLD_RANK" && cd "{places}/$OMPI_COMM_WORLD_RANK" && {own}'
    line = ["mpirun", "-n", "3", "sh", "-c", wrapped, "sh", support.PROGRAM,
            *map(str, search_line(good, base="seen.h5"))]
    before = support.snapshot(good)
    done = subprocess.run(line, env=support.environment({"WORK": good}), text=True, capture_output=True, check=False,
                          timeout=PROMPT_SECONDS, stdin=subprocess.DEVNULL)
    result = support.Result(done.returncode, done.stdout, done.stderr, 0)
    assert result.code == CONFIG, result
    assert len(support.complaints(result)) == 1 and "rank 2" in support.complaints(result)[0], result
    assert support.snapshot(good) == before


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
