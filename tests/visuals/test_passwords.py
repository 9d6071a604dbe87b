"""Hashes of passwords, their verification, and that no error or log shows a password."""

import asyncio
import subprocess

import pytest

from station.config import ConfigError
from station.visuals import passwords, settings
from station.visuals.directory import Listing, Local
from tests.visuals import kit_core as kit

HASH = "$scrypt$n=16384,r=8,p=1$7AUWfjV5+y1U7SycINfgsQ==$E4GtTcD1988Snrqf976QI6AjHkErshfcOhYD/zh/Ns8="
"""Of `right`."""


@pytest.mark.media
def test_a_hash_is_verified_and_never_the_same_twice():
    assert passwords.verify("right", HASH) and not passwords.verify("wrong", HASH)
    assert passwords.verify("ünï", passwords.hashed("ünï"))
    assert passwords.hashed("right") != HASH and HASH.startswith("$scrypt$n=16384,r=8,p=1$")
    assert passwords.fault(HASH) is None


@pytest.mark.parametrize(
    "damaged",
    [
        "$scrypt$",
        HASH[:-30],
        HASH.replace("n=16384", "n=16383"),
        HASH.replace("n=16384", "n=99999999"),
        HASH.replace("n=16384", "n=67108864"),
        HASH.replace("r=8", "r=0"),
        HASH + "$",
        HASH.replace("$scrypt$", "$scrypt$x"),
        HASH[:-6] + "=====",
    ],
)
def test_a_damaged_hash_is_told_and_fits_no_password(damaged):
    assert not passwords.verify("right", damaged) and not passwords.verify(damaged, damaged)
    fault = passwords.fault(damaged)
    assert fault and HASH[30:50] not in fault


def test_a_password_in_clear():
    assert passwords.verify("a", "a") and not passwords.verify("a", "b") and not passwords.verify("", "b")


@pytest.mark.media
def test_thousands_of_logins_cost_few_hashes(monkeypatch):
    calls = []
    real = passwords.verify
    monkeypatch.setattr(passwords, "verify", lambda *args: calls.append(args) or real(*args))

    async def run():
        checker = passwords.Checker()
        answers = await asyncio.gather(*(checker.check("right", HASH) for _ in range(500)))
        assert all(answers) and len(calls) == 1
        assert await checker.check("right", HASH) and len(calls) == 1
        assert not await checker.check("wrong", HASH) and not await checker.check("wrong", HASH) and len(calls) == 3
        other = passwords.hashed("right")
        assert await checker.check("right", other) and len(calls) == 4
        assert b"right" not in b"".join(checker._right)

    asyncio.run(run())


@pytest.mark.media
def test_a_verification_does_not_hold_up_the_loop():
    async def run():
        checker = passwords.Checker()
        tasks = [asyncio.ensure_future(checker.check(f"wrong {n}", HASH)) for n in range(4)]
        turns = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 10

    asyncio.run(run())


LISTING = {"1": {"users": {"a": HASH, "b": "clear"}, "networks": ["192.0.2.0/24", "2001:db8::/32"], "channels": []}}


@pytest.mark.parametrize(
    ("login", "passcode", "address", "error"),
    [
        ("1.a", "right", "192.0.2.9", ""),
        ("1.a", "right", "::ffff:192.0.2.9", ""),
        ("1.a", "right", "2001:db8::1", ""),
        ("1.b", "clear", "", ""),
        ("1.a", "right", "192.0.3.1", "IP not allowed"),
        ("1.a", "right", "nonsense", "IP not allowed"),
        ("1.a", "wrong", "192.0.2.9", "Wrong password"),
        ("1.b", HASH, "192.0.2.9", "Wrong password"),
        ("1.c", "right", "192.0.2.9", "Wrong username"),
        ("1", "right", "192.0.2.9", "Wrong username"),
        ("2.a", "right", "192.0.2.9", "No station"),
        (".a", "right", "192.0.2.9", "No station"),
    ],
)
def test_the_local_directory(login, passcode, address, error):
    verdict = asyncio.run(Local(Listing.from_json(LISTING)).check(login, passcode, address))
    assert (verdict.ok, verdict.error) == (not error, error)
    assert verdict.station == (None if error else "1")


def test_a_listing_survives_the_way_to_json():
    tree = kit.OPTIONS["broadcasters"]
    listing = Listing.from_json(tree)
    again = Listing.from_json(listing.to_json())
    assert again == listing and again.broadcasters["1"].channels[0].picture == "https://example.org/1.png"
    assert "secret" not in repr(listing)


SECRET = "never-shown-4711"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"broadcasters": {"1": {"users": {"a": [SECRET]}}}}, "options.broadcasters.1.users.a"),
        ({"broadcasters": {"1": {"users": [SECRET]}}}, "options.broadcasters.1.users"),
        ({"broadcasters": {"1": {"users": {"a": "$scrypt$" + SECRET}}}}, "options.broadcasters.1.users.a"),
        ({"broadcasters": {"1.2": {"users": {"a": SECRET}}}}, "options.broadcasters.1.2"),
        ({"broadcasters": {"1": {"users": {"a": SECRET}, "what": 1}}}, "options.broadcasters.1.what"),
        ({"broadcasters": {"1": {"networks": ["x"]}}}, "options.broadcasters.1.networks.0"),
        ({"broadcasters": {"1": {"channels": [{"topic": "/topic/x"}]}}}, "options.broadcasters.1.channels.0.topic"),
        ({"broadcasters": {"1": {"channels": [{"topic": "/topic/x/", "text": 1}]}}},
         "options.broadcasters.1.channels.0.text"),
        ({"token": [SECRET]}, "options.token"),
        ({"token": ""}, "options.token"),
        ({"manager_token": {"x": SECRET}}, "options.manager_token"),
        ({"tls": {"certificate": "/x", "private_key": SECRET}}, "options.tls.private_key"),
        ({"tls": {"certificate": "/x", "private_key": "PRIVATE KEY"}, "broadcasters": {"1": {"users": {"a": SECRET}}}},
         "options.broadcasters.1.users.a"),
        ({"stomp_port": 0}, "options.stomp_port"),
        ({"stomp_port": "61613"}, "options.stomp_port"),
        ({"queue": {"messages": 0}}, "options.queue.messages"),
        ({"connections": {"total": -1}}, "options.connections.total"),
        ({"connect_timeout": 0}, "options.connect_timeout"),
        ({"brokers": [1]}, "options.brokers"),
    ],
)  # fmt: skip
def test_errors_name_the_key_and_no_secret(tmp_path, options, key):
    with pytest.raises(ConfigError) as caught:
        settings.read(settings.by_hand(tmp_path, options), {})
    assert caught.value.key == key
    assert SECRET not in str(caught.value)


def test_settings_do_not_show_secrets(tmp_path):
    options = {**settings.EXAMPLE, "manager_token": SECRET, "legacy": {"api_url": "http://x/" + SECRET}}
    told = settings.read(settings.by_hand(tmp_path, options), {"RABBITMQ_PASSWORD": SECRET, "RABBITMQ_HOST": "b"})
    assert SECRET not in repr(told) and "example-password" not in repr(told) and "example-token" not in repr(told)


@pytest.mark.media
def test_the_program_makes_a_hash():
    command = [kit.PYTHON, "-m", "station.visuals", "--hash-password"]
    made = subprocess.run(command, input="pass word\n", capture_output=True, text=True, cwd=kit.ROOT, check=True)
    assert passwords.verify("pass word", made.stdout.strip())
    nothing = subprocess.run(command, input="", capture_output=True, text=True, cwd=kit.ROOT, check=False)
    assert nothing.returncode == 1 and nothing.stdout == ""
