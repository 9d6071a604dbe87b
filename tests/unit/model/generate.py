"""Writes a large inventory: rooms of ten stations that ingest, record, encode and upload."""

from pathlib import Path

STATION = """\
        r{room:02d}-s{place}:
          station_mac: "02:00:00:00:{room:02x}:{place:02x}"
          station_roles:
"""
FIRST = """\
            ingest:
              main: {source: {type: testcard}, video: {rate: 25}}
              slides: {source: {type: srt, port: 9000}}
"""
OTHER = """\
            record: {{copy: {{from: r{room:02d}-s1/main, keep: 48}}}}
            encode: {{talks: {{from: [r{room:02d}-s1/main, r{room:02d}-s1/slides]}}}}
            upload: {{archive: {{from: r{room:02d}-s{place}/talks, target: archive, token: "{{{{ token }}}}"}}}}
"""


def write(folder: Path, stations: int) -> None:
    """Write an inventory without mistakes of that many stations, a multiple of ten."""
    (folder / "rooms").mkdir(parents=True)
    (folder / "group_vars" / "all").mkdir(parents=True)
    for room in range(1, stations // 10 + 1):
        text = f"rooms:\n  children:\n    room_{room}:\n      vars: {{room_title: Room {room}, room_number: {room}}}\n"
        text += "      hosts:\n"
        for place in range(1, 11):
            text += STATION.format(room=room, place=place)
            text += FIRST if place == 1 else OTHER.format(room=room, place=place)
        (folder / "rooms" / f"room-{room:02d}.yml").write_text(text)
    (folder / "services.yml").write_text(
        "services:\n  hosts:\n    storage:\n      station_roles:\n        target: {main: {}}\n"
    )
    (folder / "group_vars" / "all" / "event.yml").write_text(
        "event_name: large\nevent_network: 10.0.0.0/16\nevent_room_size: 32\ntoken: plain\n"
        "event_targets: {archive: {type: station, station: storage/main}}\n"
    )
