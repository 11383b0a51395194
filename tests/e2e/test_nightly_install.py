"""cmake --install, and a program of someone else's that links the installed libraries."""

import os
import pathlib
import subprocess

import pytest
import support

BUILD = pathlib.Path(support.PROGRAM).parent

CONSUMER = {
    "CMakeLists.txt": """\
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES C CXX)
set(CMAKE_CXX_STANDARD 20)
find_package(mpishards 0.1 REQUIRED COMPONENTS {components})
add_executable(consumer main.cpp)
target_link_libraries(consumer PRIVATE {libraries})
""",
    "main.cpp": """\
#include <cstdio>
#include <string>

#include "core/metric.hpp"
#include "core/version.hpp"
#include "kernels/index.hpp"

int main() {
  for (const auto& row : mpishards::kernels::index_registry()) std::printf("%s\\n", std::string(row.type).c_str());
  std::printf("%s\\n", std::string(mpishards::version()).c_str());
}
""",
}


def call(*command, cwd=None):
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, cwd=cwd, timeout=300, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    if not (BUILD / "CMakeCache.txt").exists():
        pytest.skip("the program does not lie in a build folder")
    folder = tmp_path_factory.mktemp("prefix")
    call("cmake", "--install", BUILD, "--prefix", folder)
    return folder


def test_installed_program_runs_and_its_files_lie_where_people_look(prefix):
    assert call(prefix / "bin/mpishards", "version").startswith("mpishards ")
    for name in ("share/mpishards/jobs/fashion_mnist.toml", "share/mpishards/slurm/search.sbatch",
                 "share/doc/mpishards/user-guide.md", "share/man/man1/mpishards.1",
                 "share/bash-completion/completions/mpishards", "include/mpishards/core/topk.hpp"):
        assert (prefix / name).exists(), name
    assert os.access(prefix / "share/mpishards/slurm/bind_gpu.sh", os.X_OK)


@pytest.mark.parametrize("components, libraries", [
    ("core kernels", "mpishards::core mpishards::kernels"),
    ("rank", "mpishards::rank mpishards::kernels"),
    ("serve", "mpishards::serve mpishards::kernels"),
])
def test_consumer_finds_and_links_the_package(prefix, tmp_path, components, libraries):
    for name, text in CONSUMER.items():
        if name == "CMakeLists.txt":
            text = text.format(components=components, libraries=libraries)
        (tmp_path / name).write_text(text)
    call("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}", "-G", "Ninja")
    call("cmake", "--build", tmp_path / "build")
    assert "flat" in call(tmp_path / "build/consumer").split()
