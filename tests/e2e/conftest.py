"""What all end-to-end tests share; the helpers themselves are in support.py."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import support  # noqa: E402  (the line above makes it importable)

CTEST_SKIPPED = 77


@pytest.fixture
def data():
    """The folder of real data sets; tests that ask for it are skipped where there is none."""
    if support.DATA is None:
        pytest.skip("no real data sets: set MPISHARDS_DATA to their folder")
    return support.DATA


@pytest.fixture
def dice(request):
    return support.dice(request.node.name)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Nothing ran and nothing failed: CTest shall say skipped, not passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and reporter.stats.get("skipped") and not reporter.stats.get("passed"):
        session.exitstatus = CTEST_SKIPPED
