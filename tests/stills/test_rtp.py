"""RTP/JPEG: packets as RFC 3550 and RFC 2435 have them, and pictures as ffmpeg decodes them."""

import asyncio
import io
import json
import os
import random
import socket
import struct
import subprocess
import time

import pytest
from PIL import Image, ImageChops, ImageStat

from station.stills import multicast, rtp, rtp_jpeg, sdp
from station.stills.pictures import Picture
from station.stills.rtp_jpeg import Scan, Unsendable
from station.stills.settings import Rtp, StreamSettings
from tests.labkit import CHECKOUT
from tests.ports import free_port
from tests.stills.kit_net import image, joined, rtp_stream, run, settings
from tests.stills.kit_web import DEBIAN

GROUP = "239.255.41.2"
SMALL = {"width": 320, "height": 240, "pictures": 10}
COLOURS = ["#c02020", "#20c020", "#2020c0", "#c0c020", "#20c0c0", "#c020c0", "#602060"]


def jpeg(width, height, colour="#204060", **options):
    return image(width, height, colour, "JPEG", **options)


def again(scan):
    """Return the JPEG that a receiver makes of a scan, from RFC 2435 alone."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG", subsampling=2)  # for its Huffman tables, the standard ones
    usual = out.getvalue()
    tables = usual[usual.index(b"\xff\xc4") : usual.index(b"\xff\xda")]
    factors = {0: 0x21, 1: 0x22}[scan.kind]
    parts = [
        b"\xff\xd8",
        b"\xff\xdb\0\x43\0" + scan.tables[:64],
        b"\xff\xdb\0\x43\1" + scan.tables[64:],
        b"\xff\xc0\0\x11\x08" + struct.pack(">HHB", scan.height * 8, scan.width * 8, 3),
        bytes((1, factors, 0, 2, 0x11, 1, 3, 0x11, 1)),
        tables,
        b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0",
        scan.data,
        b"\xff\xd9",
    ]
    return Image.open(io.BytesIO(b"".join(parts))).convert("RGB")


def differs(one, other):
    """Return the mean difference of two images, of 255."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def opened(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize(("subsampling", "kind"), [("4:2:2", 0), ("4:2:0", 1)])
def test_usual_jpeg_goes_as_it_is(subsampling, kind):
    data = jpeg(320, 240, subsampling=subsampling)
    scan = rtp_jpeg.scan(data)
    assert (scan.kind, scan.width, scan.height, len(scan.tables)) == (kind, 40, 30, 128)
    assert scan.data in data
    assert differs(again(scan), opened(data)) == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(jpeg(320, 240, subsampling="4:4:4"), id="444"),
        pytest.param(jpeg(320, 240, subsampling="4:2:0", progressive=True), id="progressive"),
        pytest.param(jpeg(320, 240, subsampling="4:2:0", optimize=True), id="huffman"),
        pytest.param(image(320, 240), id="png"),
        pytest.param(image(320, 240, kind="GIF"), id="gif"),
        pytest.param(image(320, 240, kind="BMP"), id="bmp"),
    ],
)
def test_anything_else_is_encoded_again(data):
    assert rtp_jpeg.taken_apart(data) is None
    scan = rtp_jpeg.scan(data)
    assert (scan.kind, scan.width, scan.height) == (1, 40, 30)
    assert differs(again(scan), opened(data)) < 4


@pytest.mark.media
def test_modes_that_jpeg_does_not_have():
    for mode in ("L", "RGBA", "P", "1", "LA", "CMYK"):
        out = io.BytesIO()
        Image.new("RGB", (64, 64), "white").convert(mode).save(out, "TIFF" if mode == "CMYK" else "PNG")
        assert again(rtp_jpeg.scan(out.getvalue())).getpixel((5, 5)) == (255, 255, 255), mode
    grey = io.BytesIO()
    Image.new("L", (64, 64), 200).save(grey, "JPEG")
    assert again(rtp_jpeg.scan(grey.getvalue())).getpixel((5, 5)) == (200, 200, 200)


def test_sides_are_rounded_up_to_blocks_and_larger_ones_made_smaller():
    data = jpeg(322, 241, subsampling="4:2:0")
    scan = rtp_jpeg.scan(data)
    assert (scan.width * 8, scan.height * 8) == (328, 248)
    assert differs(again(scan).crop((0, 0, 322, 241)), opened(data)) == 0
    scan = rtp_jpeg.scan(jpeg(4080, 1000, subsampling="4:2:0"))
    assert (scan.width * 8, scan.height * 8) == (2040, 504)


def test_what_is_no_picture_is_told():
    for data in (b"", b"\xff\xd8\xff", b"no picture", jpeg(64, 64)[:300]):
        with pytest.raises(Unsendable):
            rtp_jpeg.scan(data)


def test_bytes_of_any_kind_are_taken_apart_or_refused():
    dice = random.Random(3)  # noqa: S311 - the same noise each time
    usual = jpeg(64, 48, subsampling="4:2:0")
    for _ in range(600):
        data = bytearray(usual)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(2, 640)] = dice.randrange(256)
        found = rtp_jpeg.taken_apart(bytes(data[: dice.randrange(2, len(data))]))
        assert found is None or (len(found.tables) == 128 and 0 < found.width < 256 and 0 < found.height < 256)


def test_payloads_to_the_byte():
    scan = Scan(1, 40, 30, bytes(range(128)), bytes(250) * 12)
    first, second, third = scan.payloads(1400)
    assert first[:12] == bytes((0, 0, 0, 0, 1, 255, 40, 30, 0, 0, 0, 128)) and first[12:140] == scan.tables
    assert second[:8] == bytes((0, *(1400 - 140).to_bytes(3, "big"), 1, 255, 40, 30))
    assert first[140:] + second[8:] + third[8:] == scan.data
    assert [len(one) for one in (first, second)] == [1400, 1400]
    assert len(Scan(1, 40, 30, bytes(128), bytes(1260)).payloads(1400)) == 1


def test_packets_are_numbered_marked_and_timed():
    session = rtp.Session()
    one = session.frame([b"a", b"b", b"c"], 10.0)
    two = session.frame([b"d"], 10.04)
    heads = [struct.unpack(">BBHII", packet[:12]) for packet in one + two]
    assert [head[0] for head in heads] == [0x80] * 4
    assert [head[1] for head in heads] == [26, 26, 26 | 0x80, 26 | 0x80]
    assert [(head[2] - heads[0][2]) & 0xFFFF for head in heads] == [0, 1, 2, 3]
    assert {head[4] for head in heads} == {session.source}
    assert heads[0][3] == heads[2][3] and (heads[3][3] - heads[0][3]) & 0xFFFFFFFF == 3600
    assert [packet[12:] for packet in one + two] == [b"a", b"b", b"c", b"d"]
    for _ in range(0x10000):
        session.frame([b""], 11.0)  # the number goes round
    assert struct.unpack(">H", session.frame([b""], 11.0)[0][2:4])[0] == (heads[3][2] + 1) & 0xFFFF
    assert rtp.room(1400, inet6=False) == 1360 and rtp.room(1400, inet6=True) == 1340


def test_reports_are_whole():
    session = rtp.Session()
    session.frame([b"12345", b"678"], 10.0)
    packet = session.bye(10.0)
    report = struct.unpack(">BBHIIIIII", packet[:28])
    assert report[:4] == (0x80, 200, 6, session.source) and report[6:] == (session.stamp(10.0), 2, 8)
    assert abs(report[4] - 2208988800 - time.time()) < 2
    assert struct.unpack(">BBH", packet[28:32])[:2] == (0x81, 202)
    places, at = [], 0
    while at < len(packet):
        places.append(packet[at + 1])
        at += 4 * (struct.unpack_from(">H", packet, at + 2)[0] + 1)
    assert places == [200, 202, 203] and at == len(packet)
    assert session.name.encode() + b"\0" in packet


def test_descriptions():
    told = sdp.text(name="Hall  A\r\nx", address="192.0.2.1", group="239.255.0.1", port=5004, ttl=3, ips=12.5)
    assert told.endswith("\r\n") and told.split("\r\n")[:-1] == [
        "v=0", told.split("\r\n")[1], "s=Hall A x", "c=IN IP4 239.255.0.1/3", "t=0 0", "a=recvonly",
        "m=video 5004 RTP/AVP 26", "a=rtpmap:26 JPEG/90000", "a=framerate:12.5",
    ]  # fmt: skip
    assert told.split("\r\n")[1].endswith(" 1 IN IP4 192.0.2.1") and told.startswith("v=0\r\no=- ")
    six = sdp.describe(StreamSettings("key", rtp=Rtp("ff15::1", 5004)), "2001:db8::1")
    assert "c=IN IP6 ff15::1\r\n" in six and "IN IP6 2001:db8::1\r\n" in six and "s=key\r\n" in six
    assert sdp.describe(StreamSettings("key"), "192.0.2.1") is None


@pytest.mark.media
@run
async def test_a_picture_that_stays_is_repeated_for_who_comes_late(monkeypatch):
    monkeypatch.setattr(rtp, "AGAIN", 0.1)
    with joined(GROUP) as plug:
        usual = [Picture(0, "JPG", jpeg(64, 64, subsampling="4:2:0"))]
        task = asyncio.create_task(rtp.send(rtp_stream(usual, GROUP, plug.getsockname()[1], ips=0.01), settings()))
        packets = [await hear(plug) for _ in range(4)]
        assert len({packet[4:8] for packet in packets}) == 4 and len({packet[12:] for packet in packets}) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def hear(plug):
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(plug, 2048), 5)


@pytest.mark.media
@run
async def test_unreadable_pictures_are_left_out_and_the_end_is_said(caplog):
    with joined(GROUP) as plug, joined(GROUP, port=plug.getsockname()[1] + 1) as control:
        list_of = [Picture(0, "JPG", b"no picture"), Picture(1, "JPG", jpeg(64, 64, subsampling="4:2:0"))]
        sent = rtp_stream(list_of, GROUP, plug.getsockname()[1], ips=20)
        task = asyncio.create_task(rtp.send(sent, settings()))
        packets = [await hear(plug) for _ in range(3)]
        report = await hear(control)
        assert report[1] == 200 and report[4:8] == packets[0][8:12]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        bye = await hear(control)
        assert bye[-8:-4] == b"\x81\xcb\0\1" and bye[-4:] == packets[0][8:12]
        assert sum("picture 0 is left out" in record.getMessage() for record in caplog.records) == 1
        assert sent.viewers == 0


@run
async def test_kept_scans_are_bounded(monkeypatch):
    monkeypatch.setattr(rtp, "CACHE", 1500)
    scans = rtp.Scans(True)
    made = [Picture(number, "PNG", image(160, 160, COLOURS[number])) for number in range(5)]
    for picture in made:
        first = await scans.of(picture)
        assert await scans.of(picture) is first
        assert scans._size <= max(1500, len(first.data)) and scans._size == sum(
            len(kept.data) for _, kept in scans._kept.values()
        )
    assert len(scans._kept) < 5


async def decoded(pictures, width, height, count, tmp_path, ips=10, **options):
    """Send pictures; return what ffprobe says of the stream and so many frames as ffmpeg decodes them."""
    port = free_port(socket.SOCK_DGRAM) // 2 * 2
    sent = rtp_stream(pictures, GROUP, port, ips=ips, **options)
    description = tmp_path / "one.sdp"
    description.write_text(sdp.describe(sent.settings, "127.0.0.1"), newline="")
    source = [
        "-localaddr",
        "127.0.0.1",
        "-analyzeduration",
        "500000",
        "-protocol_whitelist",
        "file,udp,rtp",
        "-buffer_size",
        "4000000",
    ]
    source += ["-i", str(description)]
    task = asyncio.create_task(rtp.send(sent, settings()))
    try:
        told = await output("ffprobe", "-v", "repeat+error", "-of", "json", "-show_streams", *source)
        raw = ["-frames:v", str(count), "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        frames = await output("ffmpeg", "-v", "repeat+error", "-nostdin", *source, *raw)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    size = width * height * 3
    assert len(frames) == size * count
    images = [Image.frombytes("RGB", (width, height), frames[at : at + size]) for at in range(0, len(frames), size)]
    return json.loads(told)["streams"][0], images


async def output(*command):
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        out, errors = await asyncio.wait_for(process.communicate(), 30)
    except TimeoutError:
        process.kill()
        raise AssertionError(f"{command[0]} gets nothing: {(await process.communicate())[1].decode()}") from None
    # whoever joins in the middle of a picture is told that he has missed its beginning
    wrong = [line for line in errors.decode().splitlines() if "without a start chunk" not in line]
    assert process.returncode == 0 and not wrong, wrong
    return out


@pytest.mark.media
@run
async def test_ffmpeg_decodes_every_kind_right(tmp_path):
    makers = [
        lambda colour: jpeg(320, 240, colour, subsampling="4:2:0"),
        lambda colour: jpeg(320, 240, colour, subsampling="4:2:2", quality=95),
        lambda colour: jpeg(320, 240, colour, subsampling="4:4:4"),
        lambda colour: jpeg(320, 240, colour, progressive=True),
        lambda colour: jpeg(320, 240, colour, optimize=True, quality=30),
        lambda colour: image(320, 240, colour),
        lambda colour: image(320, 240, colour, "GIF"),
    ]
    made = [Picture(n, "JPG", make(colour)) for n, (make, colour) in enumerate(zip(makers, COLOURS, strict=True))]
    told, frames = await decoded(made, 320, 240, 14, tmp_path)
    assert (told["codec_name"], told["width"], told["height"]) == ("mjpeg", 320, 240)
    wanted = [opened(picture.data) for picture in made]
    numbers = []
    for frame in frames:
        found = [differs(frame, one) for one in wanted]
        numbers.append(found.index(min(found)))
        assert min(found) < 4, found
    assert numbers == [(numbers[0] + step) % 7 for step in range(14)]


@pytest.mark.media
@run
async def test_ffmpeg_gets_large_pictures_whole(tmp_path):
    # in grey, because everybody makes colours between two samples in a way of his own
    noise = Image.frombytes("L", (960, 544), random.Random(1).randbytes(960 * 544)).convert("RGB")  # noqa: S311
    out = io.BytesIO()
    noise.save(out, "JPEG", quality=60, subsampling=2)
    assert len(out.getvalue()) > 150_000
    told, frames = await decoded([Picture(0, "JPG", out.getvalue())], 960, 544, 2, tmp_path, ips=8)
    assert (told["width"], told["height"]) == (960, 544)
    for frame in frames:
        assert differs(frame, opened(out.getvalue())) < 3


def test_reports_and_video_reach_no_further_than_told():
    with multicast.sender(GROUP, 1, "127.0.0.1") as plug:
        assert plug.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 1


APART = """
ip link add one type veth peer name two
for name in lo one two; do ip link set $name up; done
ip address add fd00:77::1/64 dev one nodad
{python} -m station.stills --config {folder}/config.json & server=$!
trap 'kill $server; wait $server' EXIT
{python} -c '
import pathlib, time, urllib.request
for turn in range(100):
    try:
        told = urllib.request.urlopen("http://[fd00:77::1]:8070/streams/air/rtp.sdp").read()
        break
    except OSError:
        time.sleep(0.1)
pathlib.Path("{folder}/air.sdp").write_bytes(told)'
ffprobe -v error -protocol_whitelist file,udp,rtp -of csv=p=0 -show_entries stream=codec_name,width,height \\
    {folder}/air.sdp
"""
"""Runs in a network namespace of its own, for loopback has no multicast over IPv6."""


@pytest.mark.media
def test_a_player_opens_it_over_ipv6(tmp_path):
    air = {"testcard": SMALL, "ips": 10, "rtp": {"group": "ff15::77:1", "port": 5004}}
    (tmp_path / "config.json").write_text(json.dumps({"listen_address": "fd00:77::1", "streams": {"air": air}}))
    script = APART.format(python=DEBIAN, folder=tmp_path)
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert done.stdout.strip() == "mjpeg,320,240", done.stderr
    told = (tmp_path / "air.sdp").read_bytes().split(b"\r\n")
    assert told[1].endswith(b" IN IP6 fd00:77::1")
    assert told[3] == b"c=IN IP6 ff15::77:1"
