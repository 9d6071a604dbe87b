"""A disk that fills under an ingest: nothing broken is listed, nothing is lost that need not be, and it goes on."""

import itertools
import time

import pytest

from tests.media import kit
from tests.media.kit import wait_for
from tests.media.test_ingest import check_index

pytestmark = [pytest.mark.media, pytest.mark.timeout(180)]


def test_full_disk_lists_nothing_broken_and_goes_on_when_there_is_space(ingest, small_disk):
    disk = small_disk(3)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(2_500_000))
    instance = ingest(data=disk / "data", options={"video": {**kit.SMALL, "bitrate": 1000}})
    process = instance.start()
    # A disk this small is nearly full from the first segment on, and that is said while there is still time.
    assert "hours" in instance.wait_warning("disk_low")["message"]
    metrics = instance.folder / "run" / "metrics.prom"
    wait_for(lambda: 'code="disk_full"' in metrics.read_text(), 25)
    (encoder,) = process.children()
    listed = instance.segments()
    check_index(instance, listed)
    time.sleep(1.5)
    assert instance.segments() == listed
    assert sorted(path.name for path in disk.rglob("*.ts")) == sorted(one.name.split("/")[-1] for one in listed)
    ballast.unlink()
    segments = instance.wait_segments(len(listed) + 3)
    wait_for(lambda: "disk_full" not in metrics.read_text())
    # It waited in memory: no frame is missing, and the encoder never noticed.
    assert process.children() == [encoder]
    assert not any(segment.discontinuity for segment in segments)
    for before, after in itertools.pairwise(segments):
        assert abs(after.pts - before.pts - before.duration) < 0.001
    check_index(instance, segments)
    assert process.stop() == 0
