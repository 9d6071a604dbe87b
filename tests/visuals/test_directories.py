"""Directories of a manager: ours, and that of an existing installation."""

import asyncio
import contextlib
import stat

import pytest

from station.config import ConfigError
from station.manager_link import Away, ManagerLink, Refused, in_clear, open_link
from station.visuals import directory_legacy
from station.visuals.defaults import Default
from station.visuals.directories import open_directory
from station.visuals.directory import Local
from station.visuals.directory_legacy import Legacy
from station.visuals.directory_manager import Managed
from station.visuals.passwords import hashed
from tests.ports import free_port
from tests.visuals.kit_bus import eventually
from tests.visuals.kit_fallback import LISTING, ONE, TWO, Manager, Original, listing

OTHER = {
    "2": {"users": {"desk": "word"}, "channels": [{"topic": "/topic/id/example.org/two/", "picture": "https://p"}]}
}


@contextlib.asynccontextmanager
async def running(directory):
    task = asyncio.create_task(directory.run())
    try:
        yield directory
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("station.manager_link.PAUSES", (0.05,))


def test_the_settings_say_which_directory_and_nothing_goes_in_clear_with_tls(tmp_path):
    assert isinstance(open_directory(listing(), tmp_path), Local)
    assert isinstance(open_directory(listing(), tmp_path, manager="https://m"), Local)
    assert isinstance(open_directory(listing(), tmp_path, manager="https://m", manager_token="t"), Managed)
    api = "http://192.0.2.1/x/"
    assert isinstance(open_directory(listing(), tmp_path, manager_token="t", legacy_url=api), Legacy)
    for more in ({"legacy_url": api}, {"manager": "http://192.0.2.1:80", "manager_token": "t"}):
        open_directory(listing(), tmp_path, **more)
        with pytest.raises(ConfigError, match="in clear"):
            open_directory(listing(), tmp_path, tls=True, **more)
    for url in ("http://127.0.0.1:5000/s/", "http://localhost/s/", "http://[::1]/s/", "https://192.0.2.1/s/"):
        assert not in_clear(url)
        open_directory(listing(), tmp_path, tls=True, legacy_url=url)
    assert in_clear("http://localhost.example.org/")
    assert open_link(None, "t") is None
    assert open_link("https://m", "") is None
    for url in ("ftp://m", "https://", "https://user:word@m", "m:8443"):
        with pytest.raises(ConfigError):
            ManagerLink(url, "t")
    with pytest.raises(ConfigError, match="RADIODNS_API_URL"):
        Legacy("dev-secret", tmp_path)


@pytest.mark.media
def test_what_the_manager_says_replaces_the_listing_within_a_second(tmp_path):
    async def main():
        async with Manager() as manager:
            manager.change(OTHER)
            async with running(Managed(ManagerLink(manager.url, manager.TOKEN), tmp_path, listing())) as found:
                assert await found.channels("1") == [ONE, TWO, "/topic/id/example.org/bare/"]
                await eventually(lambda: found.listing().to_json().keys() == {"2"}, 10)
                assert (await found.check("2.desk", "word", "")).ok
                assert not (await found.check("1.studio", "secret", "")).ok
                assert list(await found.known()) == ["/topic/id/example.org/two/"]
                assert await found.gcc("ch", "4321") == "4e1"
                await eventually(lambda: "wait=20" in manager.asked[-1], 10)
                count = len(manager.asked)
                manager.change(LISTING)
                await eventually(lambda: "1" in found.listing().broadcasters)
                assert len(manager.asked) <= count + 2
                manager.change({"3": {"channels": "nonsense"}})
                await asyncio.sleep(0.1)
                assert "1" in found.listing().broadcasters
            assert not any(manager.TOKEN in path for path in manager.asked)
        (path,) = tmp_path.iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    asyncio.run(main())


@pytest.mark.media
def test_without_the_manager_the_last_answer_counts_and_before_that_the_listing(tmp_path):
    async def main():
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        async with running(Managed(ManagerLink(url, Manager.TOKEN), tmp_path, listing())) as found:
            await asyncio.sleep(0.1)
            assert (await found.check("1.studio", "secret", "")).ok
            async with Manager(port) as manager:  # it comes
                manager.broadcasters = OTHER
                await eventually(lambda: "2" in found.listing().broadcasters, 10)
            await asyncio.sleep(0.1)  # and goes
            assert (await found.check("2.desk", "word", "")).ok
        async with running(Managed(ManagerLink(url, Manager.TOKEN), tmp_path, listing())) as found:
            assert (await found.check("2.desk", "word", "")).ok
        (tmp_path / "directory.json").write_text('{"broadcasters": [')
        async with running(Managed(ManagerLink(url, Manager.TOKEN), tmp_path, listing())) as found:
            assert (await found.check("1.studio", "secret", "")).ok

    asyncio.run(main())


@pytest.mark.media
def test_with_tls_no_password_in_clear_is_taken_or_kept(tmp_path):
    async def main():
        async with Manager() as manager:
            manager.change(OTHER)
            link = ManagerLink(manager.url, manager.TOKEN)
            async with running(Managed(link, tmp_path, listing({}), hashed=True)) as found:
                await eventually(lambda: manager.asked, 10)
                await asyncio.sleep(0.1)
                assert not found.listing().broadcasters
                assert not list(tmp_path.iterdir())
                manager.change({"2": {**OTHER["2"], "users": {"desk": hashed("word")}}})
                await eventually(lambda: "2" in found.listing().broadcasters, 12)
                assert (await found.check("2.desk", "word", "")).ok
            assert "word" not in (tmp_path / "directory.json").read_text()

    asyncio.run(main())


@pytest.mark.media
def test_failures_of_the_link_are_told_apart_and_hold_no_token(tmp_path):
    async def main():
        async with Manager() as manager:
            link, wrong = ManagerLink(manager.url, manager.TOKEN), ManagerLink(manager.url, "smt_wrong_token")
            assert (await link.get("/v1/visuals/directory")).etag == '"1"'
            assert (await link.get("/v1/visuals/directory?wait=0", etag='"1"')).status == 304
            with pytest.raises(Refused) as refused:
                await wrong.get("/v1/visuals/directory")
            assert (refused.value.status, "wrong" in str(refused.value)) == (401, False)
            manager.away = True
            with pytest.raises(Away):
                await link.get("/v1/visuals/directory")
            secure = ManagerLink(manager.url.replace("http:", "https:"), manager.TOKEN)
            with pytest.raises(Away):
                await secure.get("/v1/visuals/directory")
            for one in (link, wrong, secure):
                await one.close()
        missing = ManagerLink("https://127.0.0.1:1", "t", str(tmp_path / "missing.pem"))
        with pytest.raises(Away):
            await missing.get("/")
        await missing.close()

    asyncio.run(main())


@pytest.mark.media
def test_the_originals_api_is_called_as_the_original_does_with_its_cache_times(tmp_path):
    async def main():
        now = [0.0]
        async with Original() as api:
            legacy = Legacy(api.api.rstrip("/"), tmp_path, clock=lambda: now[0])
            verdict = await legacy.check("1.studio", "right", "192.0.2.9")
            assert (verdict.ok, verdict.station) == (True, "1")
            verdict = await legacy.check("1.studio", "wrong", "192.0.2.9")
            assert (verdict.ok, verdict.error) == (False, "Wrong password")
            assert api.asked == [
                ("check_auth", {"username": "1.studio", "password": password, "ip": "192.0.2.9"})
                for password in ("right", "wrong")
            ]
            for _ in range(2):
                assert await legacy.channels("1") == [ONE, TWO]
                assert await legacy.channels("2") == []
                assert await legacy.gcc("ch", "4321") == "4e1"
                assert await legacy.gcc("zz", "4321") is None
                assert sorted(await legacy.known()) == sorted([ONE, TWO])
                assert await legacy.default("11") == Default(
                    "https://original.example/one.png", "This is One", "https://one.example"
                )
                assert await legacy.default("12") is None
            assert api.asked[2:] == [
                ("get_channels", {"station_id": "1"}),
                ("get_channels", {"station_id": "2"}),
                ("get_gcc", {"cc": "ch"}),
                ("get_gcc", {"cc": "zz"}),
                ("get_all_vis_channels", {}),
                ("get_channel_default", {"id": "11"}),
                ("get_channel_default", {"id": "12"}),
            ]
            assert await legacy.watched() == {ONE: "11", TWO: "12"}
            assert legacy.listing().channels[0].text == "This is One"

            def asks(coroutine, seconds):
                async def both():
                    count = len(api.asked)
                    now[0] += seconds
                    await coroutine
                    return len(api.asked) - count

                return both()

            assert await asks(legacy.channels("1"), 59) == 0
            assert await asks(legacy.channels("1"), 2) == 1
            assert await asks(legacy.default("11"), 530) == 0
            assert await asks(legacy.default("11"), 20) == 1
            await legacy.close()
            based = Legacy(api.api, tmp_path, picture_base="https://cdn.example/")
            assert (await based.default("11")).picture == "https://cdn.example/one.png"
            await based.close()

    asyncio.run(main())


@pytest.mark.media
def test_while_the_originals_api_is_away_what_it_said_last_is_used_and_no_parameter_is_logged(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(directory_legacy, "AGAIN", 0.05)

    async def main():
        async with Original() as api:
            legacy = Legacy(api.api, tmp_path)
            async with running(legacy):
                assert (await legacy.check("1.studio", "right", "192.0.2.9")).ok
                await legacy.channels("1")
                await legacy.default("11")
                await legacy.gcc("ch", "4321")
                await eventually(lambda: (tmp_path / directory_legacy.FILE).exists())
            kept = (tmp_path / directory_legacy.FILE).read_text()
            assert "right" not in kept
            assert stat.S_IMODE((tmp_path / directory_legacy.FILE).stat().st_mode) == 0o600
            api.away = True
            legacy = Legacy(api.api, tmp_path)
            async with running(legacy):
                assert await legacy.channels("1") == [ONE, TWO]
                assert sorted(await legacy.known()) == sorted([ONE, TWO])
                assert await legacy.gcc("ch", "4321") == "4e1"
                assert (await legacy.default("11")).text == "This is One"
                assert await legacy.channels("3") == []
                assert (await legacy.check("1.studio", "right", "192.0.2.9")).ok
                for login, word, address in (
                    ("1.studio", "canary_word", "192.0.2.9"),
                    ("1.studio", "right", "192.0.2.10"),
                    ("1.other", "right", "192.0.2.9"),
                ):
                    assert not (await legacy.check(login, word, address)).ok
                api.away = False
                api.users["1.studio"] = "changed"
                assert not (await legacy.check("1.studio", "right", "192.0.2.9")).ok
                api.away = True
                assert not (await legacy.check("1.studio", "right", "192.0.2.9")).ok
        assert "check_auth" in caplog.text
        for secret in ("s3cr3t", "canary", "right", "studio"):
            assert secret not in caplog.text
        (tmp_path / directory_legacy.FILE).write_text("[]")
        assert Legacy(api.api, tmp_path).listing().channels == []

    asyncio.run(main())
