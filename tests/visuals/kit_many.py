"""Many STOMP clients in one epoll loop, each of which keeps every byte that it got."""

import resource
import select
import socket
import time

BATCH = 250


def room_for(count):
    """Raise the limit of open files as far as it goes; returns whether so many connections have room."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard >= count + 200


def frame(command, body=b"", **headers):
    lines = "".join(f"{name.replace('_', '-')}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n".encode() + body + b"\0"


class Crowd:
    """Clients of one server, by the number of their socket."""

    def __init__(self, port):
        self.port = port
        self.got = {}
        self.sockets = {}
        self.closed = set()
        self.idle = None
        """A socket that nobody reads."""
        self._poll = select.epoll()

    def dial(self, first, small=False):
        """Return a connected socket that has sent a frame, and is not read by the loop."""
        plug = socket.socket()
        plug.settimeout(20)
        if small:  # so that little of what it does not read waits in the kernel
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        plug.bind((f"127.0.0.{2 + len(self.sockets) // 4000}", 0))
        plug.connect(("127.0.0.1", self.port))
        plug.sendall(first)
        return plug

    def add(self, plug):
        """Have the loop read a socket; returns its number."""
        plug.setblocking(False)
        number = plug.fileno()
        self.sockets[number], self.got[number] = plug, bytearray()
        self._poll.register(number, select.EPOLLIN)
        return number

    def enter(self, count, connect, subscribe):
        """Connect and subscribe so many; returns their numbers when each has its receipt."""
        numbers = []
        while len(numbers) < count:
            some = [self.add(self.dial(connect)) for _ in range(min(BATCH, count - len(numbers)))]
            self.until(lambda: all(b"\0" in self.got[one] for one in some))  # noqa: B023 - done before the next turn
            for one in some:
                assert self.got[one].startswith(b"CONNECTED\n"), self.got[one]
                self.got[one].clear()
                self.sockets[one].send(subscribe)
            self.until(lambda: all(b"RECEIPT\n" in self.got[one] for one in some))  # noqa: B023
            numbers += some
        self.forget()
        return numbers

    def turn(self, seconds):
        """Read what has come."""
        for number, _event in self._poll.poll(seconds, 4096):
            try:
                data = self.sockets[number].recv(1 << 18)
            except ConnectionResetError:
                data = b""
            if data:
                self.got[number] += data
            else:
                self.closed.add(number)
                self._poll.unregister(number)

    def until(self, condition, seconds=30.0):
        """Read until a condition holds; returns how long that took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() < began + seconds, "it does not come"
            self.turn(0.05)
        return time.monotonic() - began

    def forget(self):
        """Throw away what has come so far."""
        for got in self.got.values():
            got.clear()

    def bodies(self, number):
        """Return the bodies of all messages that a client has got; they may hold no NUL."""
        *frames, rest = bytes(self.got[number]).split(b"\0")
        assert not rest.strip(b"\n"), rest
        found = [one.lstrip(b"\n").partition(b"\n\n") for one in frames]
        return [body for head, _, body in found if head.startswith(b"MESSAGE\n")]

    def close(self):
        """Close everything."""
        for plug in [*self.sockets.values(), *([self.idle] if self.idle else [])]:
            plug.close()
        self._poll.close()
