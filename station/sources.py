"""The inputs of an ingest: ffmpeg's input arguments for each `source.type`.

Every remote input has an explicit timeout, without which ffmpeg waits for ever
[field notes]; `timeout` and `rw_timeout` count microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from station import testcard
from station.config import Config, ConfigError, typed


@dataclass(frozen=True, slots=True)
class Input:
    """One source, ready for ffmpeg.

    `arguments` come before the outputs; `audio` is the input that has the audio
    tracks, `tracks` how many (None: the source tells). `listens` means that the
    source connects to us, so that waiting is no stall. `listing` is the content
    of an ffconcat file that takes the place of `{listing}` in the arguments: it
    keeps a password off the argument list. `secrets` must be kept out of logs.
    `skip` is how many seconds at the beginning are left out.
    """

    name: str
    arguments: list[str]
    audio: int = 0
    tracks: int | None = None
    listens: bool = False
    listing: str | None = None
    skip: float = 0
    secrets: Sequence[str] = field(default=(), repr=False)


LISTING = "{listing}"
_PROBE = ["-analyzeduration", "1500000", "-probesize", "5000000"]
"""ffmpeg looks at a source for at most 1.5 s: with the input timeout that stays below the stall limit."""
_PROTOCOLS = "file,crypto,data,http,https,tcp,tls,udp,rtp,srt"


def _quoted(value: str) -> str:
    """A value in ffconcat's syntax."""
    if "\n" in value or "\r" in value:
        raise ConfigError("options.source", "must not hold line breaks")
    return "'" + value.replace("'", "'\\''") + "'"


def _hidden(url: str, options: dict[str, str], secrets: Sequence[str], **rest: Any) -> Input:
    """An input whose URL or options hold a secret: given in a file that only we can read."""
    lines = ["ffconcat version 1.0", f"file {_quoted(url)}"]
    lines += [f"option {key} {_quoted(value)}" for key, value in options.items()]
    arguments = ["-f", "concat", "-safe", "0", "-protocol_whitelist", _PROTOCOLS, "-i", LISTING]
    return Input(arguments=arguments, listing="\n".join(lines) + "\n", secrets=secrets, **rest)


def _remote(url: str, options: dict[str, str], secrets: Sequence[str], **rest: Any) -> Input:
    if secrets:
        return _hidden(url, options, secrets, **rest)
    flags = [part for key, value in options.items() for part in (f"-{key}", value)]
    return Input(arguments=[*_PROBE, *flags, "-i", url], **rest)


def _srt(source: dict[str, Any], timeout: str) -> Input:
    options = {"timeout": timeout, "latency": str(typed(source, "latency", int, 200) * 1000)}
    listens = "listen" in source
    if listens:
        url = f"srt://0.0.0.0:{typed(source, 'listen', int)}"
        options["mode"] = "listener"
    else:
        url = f"srt://{typed(source, 'host', str)}:{typed(source, 'port', int)}"
        options |= {"mode": "caller", "connect_timeout": str(int(timeout) // 1000)}
    if stream := source.get("stream_id"):
        options["streamid"] = str(stream)
    secret = source.get("passphrase")
    if secret:
        options["passphrase"] = str(secret)
    return _remote(url, options, [str(secret)] if secret else [], name=url, listens=listens)


def _with_login(url: str, source: dict[str, Any]) -> tuple[str, list[str]]:
    """The URL with user and password in it, and what must stay secret."""
    user, password = source.get("user"), source.get("password")
    if not user:
        return url, []
    parts = urlsplit(url)
    login = quote(str(user), safe="") + (":" + quote(str(password), safe="") if password else "")
    secrets = [text for text in (str(password), quote(str(password), safe="")) if password]
    return parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}").geturl(), secrets


def _rtsp(source: dict[str, Any], timeout: str) -> Input:
    url = typed(source, "url", str)
    full, secrets = _with_login(url, source)
    options = {"rtsp_transport": typed(source, "transport", str, "tcp"), "timeout": timeout}
    return _remote(full, options, secrets, name=url)


def _hls(source: dict[str, Any], timeout: str) -> Input:
    url = typed(source, "url", str)
    full, secrets = _with_login(url, source)
    return _remote(full, {"rw_timeout": timeout}, secrets, name=url)


def _tcp(source: dict[str, Any], timeout: str) -> Input:
    url = f"tcp://{typed(source, 'host', str)}:{typed(source, 'port', int)}"
    kind = source.get("format")
    flags = ["-f", str(kind)] if kind else []
    return Input(url, [*_PROBE, *flags, "-i", f"{url}?timeout={timeout}"])


def _file(source: dict[str, Any], config: Config) -> Input:
    path = Path(typed(source, "path", str, typed(source, "file", str, "-")))
    if str(path) == "-":
        raise ConfigError("options.source", "of type file needs `path` (on the station) or `file` (of the inventory)")
    return Input(str(path), ["-re", "-stream_loop", "-1", "-i", "file:" + str(path)])


def _devices(source: dict[str, Any], rate: str) -> Input:
    device = typed(source, "device", str)
    video = ["-f", "v4l2", "-thread_queue_size", "512", "-timestamps", "abs"]
    video += ["-framerate", str(source.get("rate", rate))]
    if size := source.get("size"):
        video += ["-video_size", str(size)]
    if pixels := source.get("format"):
        video += ["-input_format", str(pixels)]
    video += ["-i", device]
    sound = source.get("audio_device")
    if not sound:
        return Input(device, video, tracks=0)
    # ffmpeg sets the start of each input to zero; -isync keeps the distance between them, which both tell in wall time.
    audio = ["-f", "alsa", "-thread_queue_size", "1024", "-sample_rate", "48000"]
    audio += ["-channels", str(source.get("audio_channels", 2)), "-isync", "0", "-i", str(sound)]
    return Input(f"{device} and {sound}", [*video, *audio], audio=1, tracks=1)


def resolve(config: Config, *, size: str, rate: str, tracks: int) -> Input:
    """The input that `options.source` asks for.

    `size` (`1280x720`), `rate` (`25` or `30000/1001`) and `tracks` are what the
    test card makes, and what a capture device is asked for. Raises ConfigError.
    """
    source = config.option("source", dict)
    kind = config.option("source.type", str)
    timeout = str(int(config.budget.input_timeout * 1_000_000))
    match kind:
        case "testcard":
            graph = testcard.graph(size, rate, tracks)
            return Input("test card", ["-f", "lavfi", "-i", graph], tracks=tracks, skip=testcard.LATE)
        case "file":
            return _file(source, config)
        case "v4l2":
            return _devices(source, rate)
        case "srt":
            return _srt(source, timeout)
        case "rtsp":
            return _rtsp(source, timeout)
        case "tcp":
            return _tcp(source, timeout)
        case "hls":
            return _hls(source, timeout)
    raise ConfigError("options.source.type", f"is {kind!r}; known are testcard, file, v4l2, srt, rtsp, tcp, hls")
