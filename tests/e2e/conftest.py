"""One lab for all end-to-end tests: booted, provisioned and applied once.

With STATIONMASTER_LAB_KEEP=1 in the environment the lab stays for a look, and the next run takes it over.
"""

from __future__ import annotations

import os

import pytest

from tests.e2e.stage import Stage


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Put the stations' journals into the report of a test that failed."""
    report = yield
    stage = getattr(item, "funcargs", {}).get("stage")
    if report.failed and stage is not None:
        report.sections.append(("journals of the stations", stage.journals()))
    return report


@pytest.fixture(scope="package")
def conference():
    """The stations, applied once with all output; `first` is what Ansible said.

    They go with the last test of this folder: six stations that record and encode take much of a processor.
    """
    stage = Stage()
    keep = os.environ.get("STATIONMASTER_LAB_KEEP")
    if not keep:
        stage.down()
    stage.up()
    try:
        stage.first = stage.site("-vvv", "--diff")
        yield stage
    finally:
        if not keep:
            stage.down()


@pytest.fixture
def stage(conference):
    """The conference as the demo has it, whole: what the test before wanted and broke is brought back."""
    conference.heal()
    yield conference
    conference.mend()
