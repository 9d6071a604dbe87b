"""The test card: colour bars with the UTC of each frame, readable by people and by programs, and a tone.

The time is taken when a frame is generated, from the station's clock and not
from the media's time line, so that it proves what the index says about it. The
strip along the bottom holds 48 cells, black or white, the highest bit first: 42
bits of milliseconds since the POSIX epoch, then 6 bits of that number modulo 61.
"""

from __future__ import annotations

from collections.abc import Sequence

TIME_BITS = 42
"""Enough for the year 2109."""
CHECK_BITS = 6
CHECK_MODULUS = 61
CELLS = TIME_BITS + CHECK_BITS
STRIP = 18
"""The strip is this fraction of the picture's height: 10 lines of 180, 40 of 720."""
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf"
LATE = 1.0
"""Seconds at the beginning in which frames are generated in a burst, while ffmpeg sets itself up: leave them out."""
CATCH_UP = 30
"""Seconds that a starved machine may fall behind and make good; beyond, the picture's pace begins anew."""
TONE = 400
TONE_STEP = 200
"""Track n (from 0) sounds at TONE + n * TONE_STEP Hz, so that a swapped label is heard and measured."""


def tone(track: int) -> int:
    """The frequency of a track in Hz."""
    return TONE + track * TONE_STEP


def graph(size: str, rate: str, tracks: int) -> str:
    """The lavfi graph: video on out0, then as many stereo tracks.

    `size` as `1280x720`, `rate` as `25` or `30000/1001`. It keeps its own pace
    (do not add `-re`): ffmpeg generates frames ahead of taking them, and the time
    in the picture would then be early by a frame [measured].
    """
    width, height = (int(part) for part in size.split("x"))
    strip = max(8, height // STRIP // 2 * 2)
    bit = f"floor(floor(T*1000)/pow(2,{TIME_BITS - 1}-X))"
    check = f"floor(mod(floor(T*1000),{CHECK_MODULUS})/pow(2,{CELLS - 1}-X))"
    cells = f"255*mod(if(lt(X,{TIME_BITS}),{bit},{check}),2)"
    text = r"%{gmtime\:%Y-%m-%d} %{pts\:hms} UTC"
    video = (
        f"smptehdbars=size={size}:rate={rate},format=yuv420p,realtime=limit={CATCH_UP},settb=AVTB,setpts=RTCTIME,split[card][time];"
        f"[time]scale={CELLS}:1,format=gray,geq=lum='{cells}',scale={width}:{strip}:flags=neighbor[strip];"
        f"[card][strip]overlay=0:{height - strip},setpts='mod(PTS,86400000000)',"
        f"drawtext=fontfile={FONT}:text='{text}':fontsize={max(12, height // 14)}:x=(w-tw)/2:y=h/3:"
        f"fontcolor=white:box=1:boxborderw=8:boxcolor=black,setpts=N/({rate}*TB)[out0]"
    )
    sound = [
        f"sine=frequency={tone(track)}:sample_rate=48000:beep_factor=2,aformat=channel_layouts=stereo[out{track + 1}]"
        for track in range(tracks)
    ]
    return ";".join([video, *sound])


def decode(row: Sequence[int]) -> float | None:
    """Read the strip: UTC in seconds, or None if this row of luma values holds none.

    `row` is one line of pixels through the middle of the strip.
    """
    bits = [row[int((cell + 0.5) * len(row) / CELLS)] > 127 for cell in range(CELLS)]
    milliseconds = int("".join("01"[bit] for bit in bits[:TIME_BITS]), 2)
    check = int("".join("01"[bit] for bit in bits[TIME_BITS:]), 2)
    return milliseconds / 1000 if milliseconds % CHECK_MODULUS == check and milliseconds else None
