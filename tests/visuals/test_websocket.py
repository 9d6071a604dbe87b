"""STOMP over WebSocket, and the socket of the original's player."""

import asyncio
import contextlib
import subprocess
import sys

import aiohttp
import pytest

from tests.labkit import until
from tests.ports import free_port
from tests.visuals.kit_http import ONE, House

pytestmark = pytest.mark.media
IMAGE, TEXT = f"{ONE}image", f"{ONE}text"
PLAYER = "/radiovis/fm/ce1/c221/09580"
STUDIO = "login:1.studio\npasscode:secret\n"


@pytest.fixture(scope="module", params=["/usr/bin/python3", sys.executable], ids=["debian", "venv"])
def house(request, tmp_path_factory):
    made = House(tmp_path_factory.mktemp("house"), free_port(), request.param).start()
    yield made
    assert made.stop() < 5
    assert "Traceback" not in made.log() and "Warning" not in made.log(), made.log()


class Socket:
    """A WebSocket whose messages are joined to one stream of frames."""

    def __init__(self, socket):
        self.socket = socket
        self.kinds = []
        self.rest = b""

    async def send(self, text, binary=False):
        await (self.socket.send_bytes(text.encode()) if binary else self.socket.send_str(text))

    async def frame(self):
        """Return the next frame, as text."""
        while b"\0" not in self.rest:
            got = await asyncio.wait_for(self.socket.receive(), 20)
            assert got.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), got
            self.kinds.append(got.type)
            self.rest += got.data.encode() if isinstance(got.data, str) else got.data
        frame, _, self.rest = self.rest.partition(b"\0")
        return frame.decode(errors="surrogateescape").lstrip("\n")

    async def closed(self):
        got = await asyncio.wait_for(self.socket.receive(), 20)
        return got.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


@contextlib.asynccontextmanager
async def connected(house, path="/stomp", protocols=(), **more):
    async with (
        aiohttp.ClientSession(house.url) as client,
        client.ws_connect(path, protocols=protocols, headers={"Origin": "https://elsewhere.example"}, **more) as one,
    ):
        yield Socket(one)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_each_version_is_spoken(house, version, binary):
    async def talk():
        protocol = f"v{version.replace('.', '')}.stomp"
        async with connected(house, protocols=(protocol, "other")) as one:
            assert one.socket.protocol == protocol
            accept = "" if version == "1.0" else f"accept-version:{version}\nhost:x\n"
            await one.send(f"CONNECT\n{accept}{STUDIO}\n\0", binary)
            hello = await one.frame()
            assert hello.startswith("CONNECTED\n") and ("version" in hello) == (version != "1.0")
            await one.send(f"SUBSCRIBE\nid:a\ndestination:{TEXT}\nx-ebu-nofastreply:yes\nreceipt:r1\n\n\0", binary)
            assert await one.frame() == "RECEIPT\nreceipt-id:r1\n\n"
            # in two messages, and two frames in one of them
            await one.send(f"SEND\ndestination:{TEXT}\nreceipt:r2\n\nTEXT gr", binary)
            await one.send(f"üße\0\nSEND\ndestination:{TEXT}\nreceipt:r3\n\nTEXT zwei\0", binary)
            frames = [await one.frame() for _ in range(4)]
            assert sorted(frame for frame in frames if "RECEIPT" in frame) == [
                "RECEIPT\nreceipt-id:r2\n\n",
                "RECEIPT\nreceipt-id:r3\n\n",
            ]
            assert [frame.partition("\n\n")[2] for frame in frames if "MESSAGE" in frame] == ["TEXT grüße", "TEXT zwei"]
            await one.send("DISCONNECT\nreceipt:bye\n\n\0", binary)
            assert "bye" in await one.frame()
            assert await one.closed()

    asyncio.run(talk())
    assert until(lambda: house.told() == {"connections": 0, "subscriptions": 0, "topics": []}, 15)


def test_a_body_that_is_no_text_comes_as_it_was_sent(house):
    async def talk():
        async with connected(house) as one:
            await one.send(f"CONNECT\naccept-version:1.2\nhost:x\n{STUDIO}\n\0")
            await one.frame()
            await one.send(f"SUBSCRIBE\nid:a\ndestination:{IMAGE}\nx-ebu-nofastreply:yes\n\n\0")
            await one.socket.send_bytes(f"SEND\ndestination:{IMAGE}\ncontent-length:2\n\n".encode() + b"\xff\xfe\0")
            assert (await one.frame()).encode(errors="surrogateescape").endswith(b"\n\n\xff\xfe")
            assert one.kinds[-1] == aiohttp.WSMsgType.BINARY

    asyncio.run(talk())


def test_wrong_words_get_the_same_answers_as_on_the_port(house):
    async def talk():
        async with connected(house) as one:
            await one.send("SUBSCRIBE\ndestination:/x\n\n\0")
            assert await one.frame() == "ERROR\nmessage:Excepted CONNECT\n\n"
            assert await one.closed()
        async with connected(house) as one:
            await one.send("CONNECT\nlogin:1.studio\npasscode:wrong\n\n\0")
            assert await one.frame() == "ERROR\nmessage:Wrong credentials\n\n"
            assert await one.closed()

    asyncio.run(talk())
    assert "wrong" not in house.log().lower().replace("wrong password", "")


def test_the_player_gets_raw_frames(house):
    house.send((IMAGE, "SHOW http://example.org/1.png", {"link": "http://l", "message-id": "p1"}))
    house.send((TEXT, "TEXT one", {"message-id": "p2"}))

    async def play(path):
        async with connected(house, path) as one:
            first = [await one.frame() for _ in range(3)]
            assert first[0] == "RADIOVISWEBSOCKET:HELLO"
            assert first[1].startswith(f"MESSAGE\ndestination:{IMAGE}\n") and "\nlink:http://l\n" in first[1]
            assert first[1].endswith("\n\nSHOW http://example.org/1.png") and first[2].endswith("\n\nTEXT one")
            assert len(one.kinds) == 3, "each frame is a message of its own"
            house.send((TEXT, "TEXT two"))
            assert (await one.frame()).endswith("TEXT two")
            await one.send("anything")
            assert (await one.frame()).startswith("RADIOVISWEBSOCKET:ERROR:")
            assert await one.closed()
        house.send((TEXT, "TEXT one", {"message-id": "p2"}))

    asyncio.run(play(PLAYER))
    assert until(lambda: house.told()["connections"] == 0, 15)
    assert house.told()["topics"] == []


def test_the_player_is_told_what_is_not_there(house):
    async def play(path, says):
        async with connected(house, path) as one:
            frames = [await one.frame(), await one.frame()] if says == "NOVIS" else [await one.frame()]
            assert frames[-1].startswith(f"RADIOVISWEBSOCKET:{says}"), frames
            assert await one.closed()

    asyncio.run(play("/radiovis/topic/dab/ce1/ffff/ffff/0", "NOVIS"))
    asyncio.run(play("/radiovis/fm/ce1/zzzz/1", "ERROR:"))
    assert until(lambda: house.told()["connections"] == 0, 15)


def test_with_tls_a_login_in_clear_is_refused_and_the_end_is_told(tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    key = (tmp_path / "key").read_text()
    tls = {"certificate": str(tmp_path / "cert"), "private_key": key, "https_port": free_port()}
    house = House(tmp_path, free_port(), tls=tls).start()

    async def talk():
        async with connected(house) as one:
            await one.send(f"CONNECT\n{STUDIO}\n\0")
            assert await one.frame() == "ERROR\nmessage:Wrong credentials\n\n"
        async with connected(house, f"https://127.0.0.1:{tls['https_port']}/stomp", ssl=False) as one:
            await one.send(f"CONNECT\n{STUDIO}\n\0")
            assert (await one.frame()).startswith("CONNECTED")
            assert await asyncio.to_thread(house.stop) < 5
            assert await one.closed()

    asyncio.run(talk())
    assert "Traceback" not in house.log(), house.log()
