import pytest

from tests.engine.kit import Bundle, Station


@pytest.fixture
def station(tmp_path):
    return Station(tmp_path / "station")


@pytest.fixture
def bundle():
    """Three units, one of them live."""
    bundle = Bundle()
    bundle.unit("ingest", live=True)
    bundle.unit("encode", "talks")
    bundle.unit("upload", "archive", secret="hunter2")
    return bundle
