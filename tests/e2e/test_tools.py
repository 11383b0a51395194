"""The commands of one process, as people start them: several times by accident, in another folder, with odd files."""

import json
import shutil
import subprocess

import h5py
import numpy as np
import pytest
import support

QUIET = ("-q", "--report=false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """inputs.h5 and result.h5, made with paths relative to their folder."""
    path = tmp_path_factory.mktemp("tools")
    generator = np.random.default_rng(5)
    support.write_h5(path / "inputs.h5", train=generator.normal(size=(200, 6)).astype(np.float32),
                     test=generator.normal(size=(10, 6)).astype(np.float32))
    inputs = ["--base", "inputs.h5", "--queries", "inputs.h5", "-k", 5, *QUIET]
    support.search([*inputs, "-o", "result.h5"], cwd=path)
    for part in (0, 1):
        support.search([*inputs, "--part", f"{part}/2", "-o", f"part{part}.h5"], cwd=path)
    return path


def test_copies_started_by_mpirun_work_once_and_say_so(folder, tmp_path):
    result = support.run(["eval", folder / "result.h5", folder / "result.h5", "--json"], np=3)
    assert result.code == 0 and json.loads(result.stdout)["identical_queries"] == 10, result
    assert len(support.complaints(result)) == 1 and "started 3 times" in result.stderr, result
    merged = support.run(["merge", folder / "part0.h5", folder / "part1.h5", "-o", tmp_path / "merged.h5"], np=3)
    assert merged.code == 0 and merged.stdout.count("2 parts") == 1, merged
    assert support.payload(tmp_path / "merged.h5") == support.payload(folder / "result.h5")
    failed = support.run(["eval", folder / "absent.h5", folder / "result.h5"], np=2)
    assert failed.code == 66 and sum("absent.h5" in line for line in support.complaints(failed)) == 1, failed


def test_ranks_of_a_script_do_work_of_their_own(folder, tmp_path):
    """mpirun -n 2 script.sh, where every rank converts another piece: nothing may be left out."""
    script = tmp_path / "script.sh"
    script.write_text(f"""#!/bin/sh
first=$((OMPI_COMM_WORLD_RANK * 100))
"{support.PROGRAM}" convert "{folder}/inputs.h5" "{tmp_path}/piece.$first.npy" --rows $first:$((first + 100))
exit $?
""")
    script.chmod(0o755)
    done = subprocess.run(["mpirun", "-n", "2", script], env=support.environment(), capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and "warning" not in done.stderr, done
    pieces = [np.load(tmp_path / f"piece.{first}.npy") for first in (0, 100)]
    with h5py.File(folder / "inputs.h5") as file:
        assert (np.vstack(pieces) == file["train"][...]).all()


def test_oracle_finds_the_inputs_of_a_search_in_another_folder(folder, tmp_path):
    judged = support.run(["eval", folder / "result.h5", "--oracle", "all"], cwd=tmp_path)
    assert judged.code == 0 and f"base {folder}/inputs.h5" in judged.stdout, judged
    shutil.copy(folder / "inputs.h5", tmp_path)
    nearer = support.run(["eval", folder / "result.h5", "--oracle", "all"], cwd=tmp_path)
    assert nearer.code == 0 and "base inputs.h5:train" in nearer.stdout, nearer


def test_truth_that_crashes_the_hdf5_library_is_bad_data(folder, data):
    for name in ("cve-2018-13867.h5", "cve-2025-6269-1.h5"):
        damaged = data / "robustness" / name
        for arguments in (["eval", folder / "result.h5", damaged], ["eval", damaged, "--oracle", 1],
                          ["merge", damaged, "-o", folder / "never.h5"]):
            result = support.run(arguments)
            assert result.code == 65 and name in result.stderr, result


@pytest.mark.skipif(shutil.which("h5repack") is None, reason="h5repack is not installed")
def test_the_remedy_for_data_in_other_files_works(tmp_path):
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    rows.tofile(tmp_path / "rows.bin")
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.create_dataset("train", shape=rows.shape, dtype="f4",
                            external=[("rows.bin", 0, h5py.h5f.UNLIMITED)])
    refused = support.run(["convert", "old.h5", "rows.npy"], cwd=tmp_path)
    assert refused.code == 65 and "h5repack -l CONTI OLD NEW" in refused.stderr, refused
    subprocess.run(["h5repack", "-l", "CONTI", "old.h5", "new.h5"], cwd=tmp_path, check=True)
    assert support.run(["convert", "new.h5", "rows.npy"], cwd=tmp_path).code == 0
    assert (np.load(tmp_path / "rows.npy") == rows).all()
