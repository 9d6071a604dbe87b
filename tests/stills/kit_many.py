"""Many clients of the old TCP methods in one epoll loop, which check each picture that they get."""

import resource
import select
import socket
import time


def room_for(count):
    """Raise the limit of open files as far as it goes; returns whether so many clients have room."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard >= 2 * count + 200


class Got:
    """What one client got: the numbers of its pictures in their order, each taken apart as it comes."""

    def __init__(self, plug):
        self.plug = plug
        self.numbers = []
        self.times = []
        self.head = b""
        self.left = 0

    def feed(self, view):
        """Take bytes; pictures are counted when they are whole."""
        at, size = 0, len(view)
        while at < size:
            if self.left:
                taken = min(self.left, size - at)
                self.left -= taken
                at += taken
                if not self.left:
                    self.numbers.append(self.number)
                    self.times.append(time.monotonic())
                continue
            self.head += bytes(view[at : at + 20])
            parts = self.head.split(b"\r\n", 2)
            if len(parts) < 3:
                at += 20
                continue
            at += len(parts[0]) + len(parts[1]) + 4 - (len(self.head) - len(view[at : at + 20]))
            self.number, self.left, self.head = int(parts[0]), int(parts[1]), b""


class Crowd:
    """Clients of one server; `got` has those that are read."""

    def __init__(self, port):
        self.port = port
        self.controls = []
        self.got = {}
        self._door = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._door.settimeout(10)
        self._poll = select.epoll()
        self._room = memoryview(bytearray(1 << 18))

    def enter(self, count, read=True):
        """Connect so many, with their connections for pictures."""
        handshake = f"GET 1\r\nLISTEN_PORT {self._door.getsockname()[1]}\r\n\r\n".encode()
        for _ in range(count):
            control = socket.create_connection(("127.0.0.1", self.port), 10)
            control.sendall(handshake)
            self.controls.append(control)
        for _ in range(count):
            plug, _ = self._door.accept()
            self.got[plug.fileno()] = Got(plug)
            if read:
                plug.setblocking(False)
                self._poll.register(plug.fileno(), select.EPOLLIN)

    def send(self, text):
        for control in self.controls:
            control.sendall(text)

    def turn(self, seconds):
        """Read for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for number, _ in self._poll.poll(left, 4096):
                got = self.got[number]
                size = got.plug.recv_into(self._room)
                assert size, "the server closed"
                got.feed(self._room[:size])

    def close(self):
        for plug in [*self.controls, *(one.plug for one in self.got.values()), self._door]:
            plug.close()
        self._poll.close()
