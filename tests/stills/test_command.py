"""`stationmaster stills` and `stationmaster catalogue`, and all streams of a server file in one process."""

import json
import signal
import subprocess
import sys

import pytest

from station.catalogues.rows import read
from station.stills import alone, descriptor, trace
from station.stills.descriptor import Descriptor
from stationmaster.cli import main
from tests.ports import free_port
from tests.stills.kit_catalogue import ROOT, Program, ask, reachable, text, within
from tests.stills.kit_core import Client, images

FULL = Descriptor(
    id=4, name="video", type="JPG", address="192.0.2.1", port=8001, protocol="TCP_PULL", ips=12.5,
    images=("a.jpg", "b.jpg"), numbered=True,
)  # fmt: skip
TEXT = """ID: 4
Name: video
Type: JPG
Address: 192.0.2.1
Port: 8001
Protocol: TCP_PULL
IPS: 12.5
a.jpg
b.jpg
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a descriptor and pictures."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flux.txt").write_text(TEXT)
    images(tmp_path, 3)
    return tmp_path


def saved(*arguments):
    """Return the text that `serve -s --save` writes."""
    assert main(["stills", "serve", "--flux", "flux.txt", "--save", "out.txt", "-s", *arguments]) == 0
    with open("out.txt") as file:  # noqa: PTH123 - in the working folder of the test
        return file.read()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], TEXT),
        (["--addr", "192.0.2.9"], TEXT.replace("192.0.2.1", "192.0.2.9")),
        (["--port", "9"], TEXT.replace("8001", "9")),
        (["--ips", "24"], TEXT.replace("12.5", "24.0")),
        (["--ips", "0.5"], TEXT.replace("12.5", "0.5")),
        (["--name", "other"], TEXT.replace("video", "other")),
        (["--method", "tcp_push"], TEXT.replace("TCP_PULL", "TCP_PUSH")),
        (["--method", "udp_pull"], TEXT.replace("TCP_PULL", "UDP_PULL")),
        (["--method", "udp_push"], TEXT.replace("TCP_PULL", "UDP_PUSH")),
        (["--method", "MCAST_PUSH"], TEXT.replace("TCP_PULL", "MCAST_PUSH")),
        (["--id", "7"], TEXT.replace("ID: 4", "ID: 7")),
        (["--type", "png"], TEXT.replace("Type: JPG", "Type: PNG")),
        (["c.jpg"], TEXT.replace("a.jpg\nb.jpg", "c.jpg")),
        # 0 and empty say nothing
        (["--port", "0", "--ips", "0", "--id", "0", "--name", "", "--addr", ""], TEXT),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_go_before_the_file(here, arguments, expected):
    assert saved(*arguments) == expected


def test_without_a_file_the_defaults_are_those_of_the_reference(here):
    assert main(["stills", "save", "--save", "out.txt"]) == 0
    assert (here / "out.txt").read_text() == "ID: 0\nName: \nType: \nAddress: \nPort: 0\nProtocol: \nIPS: 1.0\n"
    assert main(["stills", "save", "0.jpg", "--save", "out.txt", "--method", "tcp_pull"]) == 0
    assert descriptor.read(here / "out.txt").images == ("0.jpg",)


def test_images_beside_a_descriptor_elsewhere_are_found_from_here(here):
    (here / "below").mkdir()
    images(here / "below", 1)
    (here / "below" / "flux.txt").write_text(TEXT.replace("a.jpg\nb.jpg", "0.jpg"))
    assert main(["stills", "save", "--flux", "below/flux.txt", "--save", "out.txt"]) == 0
    assert descriptor.read(here / "out.txt").images == ("below/0.jpg",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--flux", "none.txt"], "none.txt: cannot be read: No such file"),
        (["serve", "--save", "none/out.txt", "-s"], "none/out.txt: cannot be written: No such file"),
        (["save"], "needed is --save FILE"),
        (["save", "a b.jpg", "--save", "out.txt"], "'a b.jpg' has a space"),
        (["serve", "0.jpg"], "no protocol to serve: needed is --method, one of tcp_push,"),
        (["serve", "--flux", "unknown.txt"], "Protocol: 'HTTP_PUSH' is unknown; allowed are TCP_PUSH,"),
        (["serve", "0.jpg", "--method", "tcp_push"], "--port: is missing; tcp_push needs one"),
        (["serve", "--method", "tcp_push", "--port", "8000"], "IMAGE: has no image"),
        (["serve", "none.jpg", "--method", "tcp_push", "--port", "8000"], "none.jpg"),
        (["serve", "0.jpg", "--method", "tcp_push", "--port", "8000", "--ips", "1000"], "--ips: is 1000; needed is"),
        (["serve", "0.jpg", "--method", "mcast_push", "--port", "8000"], "--addr: is ''; needed is a multicast group"),
        (
            ["serve", "0.jpg", "--method", "tcp_push", "--port", "8000", "--http-port", "8000"],
            "as that of --http-port; give",
        ),
        (["serve", "--flux", "0.jpg"], "0.jpg: is no descriptor: it is no text"),
        (["serve", "0.jpg", "--method", "udp_push", "--port", "8000", "--network", "x"], "'x' is no network"),
        (["all", "none.txt"], "none.txt: cannot be read: No such file"),
        (["all", "empty.txt"], "has no ServerAddress: and no ServerPort: a line such as"),
        (["all", "no-port.txt"], "has no ServerPort: a line such as"),
        (["all", "bad-port.txt"], "ServerPort: is 'x'; needed is a port"),
        (["all", "misspelt.txt"], "needed; it has 'ServerAdress: 127.0.0.1'"),
        (["all", "clash.txt"], "video.port: is 8001, as that of ServerPort:; give it another"),
        (["all", "no-flux.txt", "--page-port", "8000"], "names no descriptor"),
        (["all", "full.txt", "--page-port", "8000"], "--page-port: is 8000, as that of ServerPort:; give it another"),
        (["all", "no-flux.txt"], "names no descriptor"),
        (["all", "bad-flux.txt"], "unknown.txt: Protocol: 'HTTP_PUSH' is unknown"),
        (["all", "bad-flux.txt"], "gone.txt: cannot be read"),
        (["all", "bad-flux.txt"], "plain.txt: has no Protocol: line"),
        (["list", "--dir", "none"], "none is no folder"),
    ],
)
def test_what_cannot_be_used_is_told_after_the_usage(here, capsys, arguments, message):
    (here / "unknown.txt").write_text(TEXT.replace("TCP_PULL", "HTTP_PUSH"))
    (here / "plain.txt").write_text("Name: x\n0.jpg\n")
    (here / "empty.txt").write_text("")
    (here / "no-port.txt").write_text("ServerAddress: 127.0.0.1\nflux.txt\n")
    (here / "bad-port.txt").write_text("ServerAddress: 127.0.0.1\nServerPort: x\nflux.txt\n")
    (here / "misspelt.txt").write_text("ServerAdress: 127.0.0.1\nServerPort: 8000\nflux.txt\n")
    (here / "clash.txt").write_text("ServerAddress: 127.0.0.1\nServerPort: 8001\nflux.txt\n")
    (here / "full.txt").write_text("ServerAddress: 127.0.0.1\nServerPort: 8000\nflux.txt\n")
    (here / "no-flux.txt").write_text("ServerAddress: 127.0.0.1\nServerPort: 8000\n")
    (here / "bad-flux.txt").write_text("ServerAddress: a\nServerPort: 8000\nunknown.txt\ngone.txt\nplain.txt\n")
    assert main(["stills", *arguments]) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(f"usage: stationmaster stills {arguments[0]}")
    assert message in told.err.partition("stationmaster: ")[2]
    assert not (here / "running").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stills", "serve", "--method", "http"], "invalid choice: 'http'"),
        (
            ["stills", "serve", "a.jpg", "--metod", "tcp_push"],
            "--metod tcp_push; did you mean --method?",
        ),
        (["stills", "save", "a.jpg", "-s", "--save", "x"], "unrecognized arguments: -s"),
        (["stills", "all", "server.txt", "--pageport", "8000"], "did you mean --page-port?"),
        (["stills", "all"], "required: SERVER_FILE"),
        (["stills", "serve", "--port", "eighty"], "'eighty' is no port; needed is 1 to 65535"),
        (["stills", "serve", "--port", "70000"], "'70000' is no port; needed is 1 to 65535"),
        (["catalogue", "--port", "-1"], "'-1' is no port; needed is 1 to 65535"),
    ],
)
def test_wrong_use_is_told_with_the_usage_of_the_action(here, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    told = capsys.readouterr().err
    assert message in told and told.startswith(f"usage: stationmaster {arguments[0]}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["0.jpg", "1.jpg", "--name", "x", "--port", "8000"],
        ["--name", "x", "--port", "8000", "0.jpg", "1.jpg"],
        ["--name", "x", "0.jpg", "--port", "8000", "1.jpg"],
        ["0.jpg", "--name", "x", "1.jpg", "--port", "8000"],
    ],
    ids=["before", "after", "between", "around"],
)
def test_images_stand_before_after_and_between_options(here, arguments):
    assert main(["stills", "save", "--save", "out.txt", *arguments]) == 0
    made = descriptor.read(here / "out.txt")
    assert (made.images, made.name, made.port) == (("0.jpg", "1.jpg"), "x", 8000)


def test_lines_of_a_file_that_say_nothing_are_told(here, capsys):
    (here / "odd.txt").write_text(f"# a comment\n{TEXT}\nIps: 4\nmy picture.jpg\nName: my film\nAddress: \n")
    (here / "odd.serv").write_text("ServerAddress: a\nServerPort: 8000\n\n# a comment\nmy film.txt\ngone.txt\n")
    assert main(["stills", "save", "--flux", "odd.txt", "--save", "out.txt"]) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line.split(" says")[0] for line in told] == [
        "stationmaster: odd.txt: line 12: 'Ips: 4'",
        "stationmaster: odd.txt: line 13: 'my picture.jpg'",
        "stationmaster: odd.txt: line 14: 'Name: my film'",
    ]
    assert main(["stills", "all", "odd.serv"]) == 1
    assert "odd.serv: the line 'my film.txt' says nothing" in capsys.readouterr().err


def test_a_catalogue_has_two_ports(capsys):
    assert main(["catalogue", "--port", "8000", "--http-port", "8000"]) == 1
    assert "http_port: is 8000, as `port` is; needed is another one" in capsys.readouterr().err


def test_streams_of_one_process_have_names_and_numbers_of_their_own():
    found = [Descriptor(name=name, id=id, numbered=True, protocol="TCP_PUSH", port=port, images=("a.jpg",))
             for name, id, port in (("a", 1, 1), ("7", 1, 2), ("", 0, 3), ("a", 2, 4), ("ä", 0, 5))]  # fmt: skip
    made = alone.settings_of(found, alone.Ways()).streams
    assert [one.key for one in made] == ["a", "stream7", "stream", "a-2", "_"]
    assert [one.name for one in made] == ["a", "7", "stream", "a", "ä"]
    assert [one.id for one in made] == [1, 3, 0, 2, 5]


def test_lines_have_the_form_of_the_reference(capsys, monkeypatch):
    monkeypatch.setattr(trace, "level", 3)
    trace.tell(trace.LIFE, "video", "begins")
    trace.sent("video", 2, b"\xff\xd8")
    trace.received("video", b"START\r\n")
    assert capsys.readouterr().out == "[video] : begins\r\n[video] : sends picture 2, 2 bytes\r\n"
    monkeypatch.setattr(trace, "level", 5)
    trace.sent("video", 2, b"\xff\xd8" + b"x" * 500)
    trace.received("video", b"START\r\n")
    *_, data, received = capsys.readouterr().out.split("\r\n")[:-1]
    assert data.startswith(r"[video] : sent \xff\xd8xxx") and data.endswith("… (502 bytes)")
    assert received == r"[video] : received START\r\n"


def test_list_tells_what_runs_here(here, capsys):
    (here / "running").mkdir()
    (here / "running" / "1700000000.1").write_text(TEXT)
    assert main(["stills", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "NAME", "TYPE", "ADDRESS", "PORT", "PROTOCOL", "IPS"]
    assert row.split() == ["4", "video", "JPG", "192.0.2.1", "8001", "TCP_PULL", "12.5"]
    assert main(["stills", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["protocol"] == "TCP_PULL"
    (here / "running" / "1700000000.1").unlink()
    assert main(["stills", "list"]) == 0
    assert capsys.readouterr() == ("", "stationmaster: no stream runs here, by the descriptors in running/\n")


# --- as processes ----------------------------------------------------------------------------------------------------


class Command(Program):
    """`stationmaster …` in a folder."""

    def __init__(self, folder, *arguments):
        super().__init__(
            "-m", "stationmaster", *map(str, arguments), folder=folder, python=sys.executable,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def ended(self, number):
        """Ask it to stop; return its status and the lines of stdout and stderr."""
        status, seconds = self.end(number)
        assert seconds < 10
        return status, self.process.stdout.read(), self.process.stderr.read()


def names(folder):
    return sorted(path.name for path in (folder / "running").iterdir())


@pytest.mark.media
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_serve_serves_old_clients_until_it_is_asked_to_stop(tmp_path, number):
    paths, port = images(tmp_path, 3), free_port()
    given = ("--port", port, "--ips", 40, "--method", "tcp_push", "--name", "video", "--id", 3)
    with Command(tmp_path, "stills", "serve", *paths, *given, "--save", "flux.txt", "-vvvv") as command:
        within(lambda: reachable(port), 20)
        within(lambda: len(names(tmp_path)) == 1, 2)
        running = tmp_path / "running" / names(tmp_path)[0]
        assert running.read_text().split("\n", 1)[1] == (tmp_path / "flux.txt").read_text()
        with Client(port).open("START") as client:
            assert client.numbers(4) == [0, 1, 2, 0]
            status, out, err = command.ended(number)
            client.gone()
    assert (status, err) == (0, "") and names(tmp_path) == []
    lines = out.split("\n")[:-1]
    assert all(line.startswith("[") and "] : " in line for line in lines)
    assert "[video] : sends picture 0, " in out and r"[video] : received GET 1\r\nLISTEN_PORT" in out
    assert "[stills] : stopped" in out


@pytest.mark.media
def test_what_a_kill_left_is_cleaned_by_the_next(tmp_path):
    paths, ports = images(tmp_path, 1), (free_port(), free_port())
    with Command(tmp_path, "stills", "serve", *paths, "--port", ports[0], "--method", "tcp_pull") as command:
        within(lambda: reachable(ports[0]) and names(tmp_path), 20)
        command.process.kill()
        command.process.wait(5)
        (ghost,) = names(tmp_path)
        with Command(tmp_path, "stills", "serve", *paths, "--port", ports[1], "--method", "tcp_pull") as other:
            within(lambda: reachable(ports[1]) and names(tmp_path) != [ghost], 20)
            assert len(names(tmp_path)) == 1 and ghost not in names(tmp_path)
            # a port that is taken is no stream that runs
            with Command(tmp_path, "stills", "serve", *paths, "--port", ports[1], "--method", "tcp_pull") as third:
                assert third.process.wait(20) == 1
                assert f"TCP port {ports[1]} is taken" in third.process.stderr.read()
            assert len(names(tmp_path)) == 1
            assert other.ended(signal.SIGTERM) == (0, "", "")


@pytest.mark.media
def test_the_catalogue_shows_what_runs_here(tmp_path):
    paths, ports = images(tmp_path, 2), (free_port(), free_port(), free_port())
    (tmp_path / "running").mkdir()
    (tmp_path / "running" / ".gitignore").write_text("*\n")
    (tmp_path / "running" / "old").write_text(TEXT)

    def shown():
        return [row.name for row in read(text(ports[0]).decode())]

    with Command(tmp_path, "catalogue", "--port", ports[0], "--http-port", ports[1], "--dir", "running/", "-vv") as one:
        within(lambda: reachable(ports[0]), 20)
        within(lambda: shown() == ["video"], 2)
        given = ("--port", ports[2], "--method", "tcp_push", "--name", "mine", "--http-port", free_port())
        with Command(tmp_path, "stills", "serve", *paths, *given) as served:
            within(lambda: reachable(ports[2]), 20)
            within(lambda: shown() == ["mine", "video"], 1.5)
            with ask(f"http://127.0.0.1:{ports[1]}/streams") as answer:
                mine = json.load(answer)["streams"][0]
            with ask(mine["base"] + mine["urls"]["latest"]) as answer:
                assert answer.headers["Content-Type"] == "image/jpeg"
            served.process.kill()
            within(lambda: shown() == ["video"], 1.5)
        (tmp_path / "running" / "old").unlink()
        within(lambda: shown() == [], 1.5)
        status, out, err = one.ended(signal.SIGINT)
    assert (status, err) == (0, "")
    assert "[catalogue] : HTTP/1.1 200 OK" in out and "name=mine" in out


def server_file(folder, port, *ports):
    methods = ("TCP_PUSH", "TCP_PULL")
    for number, (method, at) in enumerate(zip(methods, ports, strict=True), 1):
        made = Descriptor(number, f"video{number}", "JPG", "127.0.0.1", at, method, 40.0, ("0.jpg", "1.jpg"))
        descriptor.write(folder / f"{number}.txt", made)
    (folder / "server.txt").write_text(f"ServerAddress: 127.0.0.1\r\nServerPort: {port}\r\n1.txt\r\n2.txt\r\n")
    return folder / "server.txt"


@pytest.mark.media
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_one_process_has_all_streams_of_a_server_file_and_their_catalogue(tmp_path, number):
    images(tmp_path, 2)
    port, push, pull = free_port(), free_port(), free_port()
    file = server_file(tmp_path, port, push, pull)
    if number == signal.SIGTERM:
        command = Command(tmp_path, "stills", "all", file, "-vv")
    else:
        # with Debian's Python, and no Ansible at all
        command = Program(
            "-m", "station.stills", str(file), "2", folder=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    with command:
        within(lambda: reachable(port), 20)
        told = text(port).decode()
        expected = [
            f"ServerAddress: 127.0.0.1 \r\nServerPort: {port} \r\n",
            f"Object ID=1 name=video1 type=JPG address=127.0.0.1 port={push} protocol=TCP_PUSH ips=40.0 \r\n",
            f"Object ID=2 name=video2 type=JPG address=127.0.0.1 port={pull} protocol=TCP_PULL ips=40.0\r\n",
        ]
        assert told.partition("\r\n\r\n")[2] == "".join(expected)
        assert len(names(tmp_path)) == 2
        with Client(push).open("START") as pushed, Client(pull).open("GET -1") as pulled:
            assert pushed.numbers(3) == [0, 1, 0]
            assert pulled.numbers(1) == [0]
            status, seconds = command.end(number)
            pushed.gone()
            pulled.gone()
        out, err = command.process.stdout.read(), command.process.stderr.read()
    assert (status, err) == (0, "") and seconds < 10
    assert names(tmp_path) == []
    assert "[catalogue] : HTTP/1.1 200 OK" in out
    assert out.endswith("[stills] : stopped\n")


@pytest.mark.parametrize("arguments", [["server.txt"], ["server.txt", "6"], ["server.txt", "x"], ["a", "1", "2"]])
def test_the_original_form_tells_how_it_is_used(arguments, capsys):
    assert alone.main(arguments) == 1
    assert capsys.readouterr().err == alone.USAGE + "\n"


@pytest.mark.media
def test_the_original_form_tells_what_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "station.stills", "none.txt", "0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "none.txt: cannot be read" in done.stderr and "Traceback" not in done.stderr
