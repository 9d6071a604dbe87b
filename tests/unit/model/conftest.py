import shutil
from pathlib import Path

import pytest

from stationmaster import catalogue, inventory, rules

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="session")
def roles():
    return catalogue.load([DATA / "roles"])


@pytest.fixture
def folder(tmp_path):
    """A copy of the inventory without mistakes."""
    return Path(shutil.copytree(DATA / "inventory", tmp_path / "inventory"))


@pytest.fixture
def check(roles):
    """Return the findings of an inventory as dictionaries, also when it cannot be read."""

    def run(folder):
        try:
            found = rules.check(inventory.load(folder, roles=roles), roles)
        except inventory.UnusableInventory as error:
            found = error.findings
        return [finding.to_dict() for finding in found]

    return run
