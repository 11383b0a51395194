"""Virtual environments with released pymilvus versions and with milvus-lite, made once under build/ and used by the serve tests."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import support

FOLDER = pathlib.Path(os.environ.get("MPISHARDS_VENVS", support.ROOT / "build/venvs"))
SCRIPTS = pathlib.Path(__file__).parent / "milvus_scripts"

# Old releases name no upper bounds for what they import.
PACKAGES = {
    "newest": ["pymilvus==3.0.*"],  # 3.1 is announced to leave out the ORM style, which half of the scripts use
    "2.5": ["pymilvus==2.5.*", "setuptools<80"],
    "2.3": ["pymilvus==2.3.*", "setuptools<70", "marshmallow<4", "numpy<2"],
}
# A server to compare with, and the client it is asked with. Pinned: docs/milvus.md tells what this very version answers.
LITE = "lite"
ENVIRONMENTS = {**PACKAGES, LITE: ["milvus-lite==3.2.2", "pymilvus==3.0.*"]}
INSTALL_SECONDS = 240


def python(version):
    """The interpreter of the environment with this version; skips the test where PyPI can't be reached."""
    folder = FOLDER / f"pymilvus-{version}"
    interpreter = folder / "bin/python"
    finished = folder / "finished"
    if not finished.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True,
                           timeout=INSTALL_SECONDS)
            subprocess.run([interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check",
                            *ENVIRONMENTS[version]], check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"{ENVIRONMENTS[version][0]} can't be installed here: {getattr(error, 'stderr', None) or error}")
        finished.touch()
    return interpreter


def run(version, script, address, **facts):
    """Runs milvus_scripts/SCRIPT against the server; its last line is a JSON document, which is returned."""
    result = subprocess.run([python(version), SCRIPTS / script, address, json.dumps(facts)], capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 0, f"{script} with pymilvus {version}:\n{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout.splitlines()[-1])
