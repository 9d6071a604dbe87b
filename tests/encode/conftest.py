from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.encode.kit import Instance
from tests.encode.recording import Recording

CAMERA = "hall-a-cam/main"


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Ten seconds at 25 frames a second, unbroken; never to be changed."""
    made = Recording(tmp_path_factory.mktemp("media") / "main")
    made.add(0, 250)
    return made


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Makes encode instances that are ended with the test."""
    made: list[Instance] = []

    def make(source: Recording | str | None = None, name: str = "one", **options: Any) -> Instance:
        (tmp_path / name).mkdir(exist_ok=True)
        made.append(Instance(tmp_path / name, {CAMERA: source} if source else {}, **options))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None:
            one.process.kill()
            one.process.wait()
