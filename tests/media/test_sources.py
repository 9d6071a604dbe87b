"""Sources that come, stall, go and lie; every one bounded in time."""

import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.media import kit
from tests.media.kit import wait_for
from tests.ports import free_port

pytestmark = [pytest.mark.media, pytest.mark.timeout(180)]


class Mixer:
    """Hands a camera's stream on over TCP, and stalls when told to: open, but silent."""

    def __init__(self, data, seconds=9):
        self._seconds = seconds
        self.port = free_port()
        self.stalled = threading.Event()
        self.accepted = 0
        self._data = data
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._open = True
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while self._open:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._send, args=(client,), daemon=True).start()

    def _send(self, client):
        size = 188 * 20
        begun = time.monotonic()
        rate = len(self._data) / self._seconds
        with client:
            for at in range(0, len(self._data), size):
                while self.stalled.is_set() and self._open:
                    time.sleep(0.05)
                while self._open and at / rate > time.monotonic() - begun:
                    time.sleep(0.01)
                try:
                    client.sendall(self._data[at : at + size])
                except OSError:
                    return

    def close(self):
        self._open = False
        self._server.close()


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """9 s of a programme with three audio tracks, the second one digital silence, the third without its right side."""
    path = tmp_path_factory.mktemp("stream") / "programme.ts"
    graph = (
        "testsrc2=size=320x180:rate=25[out0];sine=frequency=400,aformat=channel_layouts=stereo[out1];"
        "anullsrc=channel_layout=stereo:sample_rate=44100[out2];sine=frequency=800,pan=stereo|c0=c0[out3]"
    )
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        graph,
        "-t",
        "9",
        "-map",
        "0:0",
        "-map",
        "0:1",
        "-map",
        "0:2",
    ]
    command += [
        "-map",
        "0:3",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "25",
        "-c:a",
        "aac",
        "-f",
        "mpegts",
        path,
    ]
    subprocess.run([str(part) for part in command], check=True)
    return path


@pytest.mark.parametrize("who", [pytest.param("ffmpeg", marks=pytest.mark.soak), "supervisor"])
def test_a_stalled_source_is_waited_for_and_taken_up_again(ingest, stream, closing, who):
    """The input's own timeout finds it; where that does not help, the supervisor does."""
    mixer = closing(Mixer(stream.read_bytes()))
    budget = kit.SHORT if who == "ffmpeg" else {"media_tick": 1, "input_timeout": 60, "stall_limit": 3}
    instance = ingest({"type": "tcp", "host": "127.0.0.1", "port": mixer.port}, budget=budget)
    process = instance.start()
    instance.wait_state("running")
    accepted = mixer.accepted
    mixer.stalled.set()
    stalled_at = time.monotonic()
    status = instance.wait_state("waiting", 20)
    assert time.monotonic() - stalled_at < budget["stall_limit"] + 6
    assert ("timed out" in status["reason"]) == (who == "ffmpeg")
    before = len(instance.segments())
    mixer.stalled.clear()
    instance.wait_state("running")
    segments = instance.wait_segments(before + 2)
    assert mixer.accepted > accepted
    assert any(segment.discontinuity for segment in segments)
    assert process.stop() == 0


def test_all_tracks_of_a_source_are_recorded_and_watched(ingest, stream, closing):
    """Without `audio.tracks` nothing is dropped; silence and a missing channel are warnings."""
    mixer = closing(Mixer(stream.read_bytes()))
    instance = ingest({"type": "tcp", "host": "127.0.0.1", "port": mixer.port}, options={"audio": {"silence_after": 2}})
    instance.start()
    silence = instance.wait_warning("silence")
    assert "track 2" in silence["message"]
    missing = instance.wait_warning("channel_missing")
    assert "track 3" in missing["message"] and "channel 2" in missing["message"]
    segment = instance.segments()[-1]
    for track, frequency in ((0, 400), (2, 800)):
        assert abs(kit.pitch(instance.data / segment.name, track) - frequency) < 40
    metrics = (instance.folder / "run" / "metrics.prom").read_text()
    assert 'code="silence"' in metrics and 'track="Track 3"' in metrics


@pytest.mark.soak
def test_a_track_that_the_source_lacks_is_said_and_costs_nothing(ingest, stream, closing):
    mixer = closing(Mixer(stream.read_bytes()))
    tracks = [{"label": "Right", "stream": 2, "channels": [1]}, {"label": "Ghost", "stream": 7}]
    instance = ingest({"type": "tcp", "host": "127.0.0.1", "port": mixer.port}, options={"audio": {"tracks": tracks}})
    instance.start()
    assert "Ghost" in instance.wait_warning("track_missing")["message"]
    assert "0, 1" in instance.wait_warning("track_unused")["message"]
    segment = instance.wait_segments(1)[-1]
    assert abs(kit.pitch(instance.data / segment.name, 0) - 800) < 40


@pytest.mark.soak
def test_file_in_a_loop_goes_on(ingest, stream, tmp_path):
    short = tmp_path / "short.ts"
    subprocess.run(["ffmpeg", "-v", "error", "-i", stream, "-t", "2", "-c", "copy", "-map", "0", short], check=True)
    instance = ingest({"type": "file", "path": str(short)})
    instance.start()
    segments = instance.wait_segments(4)
    assert not any(segment.discontinuity for segment in segments)


def test_srt_with_a_passphrase_that_nobody_can_read(ingest, closing, tmp_path):
    port = free_port(socket.SOCK_DGRAM)
    secret = "it's a \\ secret & 100 %"
    source = {"type": "srt", "host": "127.0.0.1", "port": port, "passphrase": secret}
    instance = ingest(source)
    process = instance.start()
    # The caller tries while nobody listens: waiting, bounded.
    instance.wait_state("waiting")
    output = ["-f", "mpegts", "-mode", "listener", "-passphrase", secret, f"srt://127.0.0.1:{port}"]
    camera = closing(kit.camera(output, tmp_path / "camera.txt"))
    instance.wait_segments(2)
    (encoder,) = wait_for(process.children)
    arguments = Path(f"/proc/{encoder}/cmdline").read_text()
    assert "ffmpeg" in arguments and secret not in arguments
    # Its own process, its own clock code: the tie holds through the network.
    segment = instance.segments()[-1]
    errors = kit.errors_of_clock(instance.data, segment)
    # The camera's encoder and SRT (200 ms) come before the arrival, which is what counts.
    assert -1.0 < min(errors) < 0.04
    camera.close()
    instance.wait_state("waiting", 20)
    assert secret not in instance.log()


@pytest.mark.soak
def test_srt_that_calls_us(ingest, closing, tmp_path):
    port = free_port(socket.SOCK_DGRAM)
    instance = ingest({"type": "srt", "listen": port})
    process = instance.start()
    listener = wait_for(process.children)
    time.sleep(kit.SHORT["stall_limit"] + 1.5)
    # Waiting for a call is no stall: the port stays open.
    assert process.children() == listener
    closing(kit.camera(["-f", "mpegts", f"srt://127.0.0.1:{port}"], tmp_path / "camera.txt"))
    instance.wait_segments(1)


def test_a_missing_device_is_waited_for(ingest):
    instance = ingest({"type": "v4l2", "device": "/dev/video-none", "audio_device": "hw:CARD=none"})
    process = instance.start()
    status = wait_for(lambda: (found := instance.status()) and "No such file" in found["reason"] and found)
    assert status["state"] == "waiting" and process.alive()


def test_hls(ingest, closing, tmp_path):
    folder = tmp_path / "hls"
    folder.mkdir()
    output = ["-f", "hls", "-hls_time", "1", "-hls_flags", "delete_segments+temp_file", folder / "live.m3u8"]
    closing(kit.camera(output, tmp_path / "camera.txt"))
    wait_for((folder / "live.m3u8").exists)
    port = free_port()
    closing(kit.serve(folder, port, tmp_path / "nginx.txt"))
    instance = ingest({"type": "hls", "url": f"http://127.0.0.1:{port}/live.m3u8"})
    instance.start()
    instance.wait_segments(2)
