"""A small event with servers of slides and texts and with signage, and the manager on it."""

from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from api.clock import now
from tests.api.small_event import Scene, SmallEvent

HASH = "$scrypt$n=16384,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
LOGO = "https://www.example.org/logo.png"
BROADCASTERS = {
    "1": {
        "users": {"studio": HASH, "desk": "in clear"},
        "networks": ["192.0.2.0/24"],
        "channels": [
            {"topic": "/topic/fm/ce1/c221/09580/", "name": "One", "picture": LOGO, "text": "Radio One",
             "link": "https://www.example.org/"},
            {"topic": "/topic/dab/ce1/ce15/c221/0/", "name": "One on DAB"},
        ],
    }
}  # fmt: skip
BASE = "https://slides.example.org/small"
PASSWORD = "the vault's own"
HIDDEN = "in the vault"
TOKEN = "a-token-of-the-servers"


class Vault(str):
    """A text that the inventory has encrypted."""


def _dump(told) -> str:
    class Dumper(yaml.SafeDumper):
        pass

    lib = VaultLib([("default", VaultSecret(PASSWORD.encode()))])
    Dumper.add_representer(
        Vault, lambda dumper, text: dumper.represent_scalar("!vault", lib.encrypt(str(text)).decode(), style="|")
    )
    return yaml.dump(told, Dumper=Dumper)


class VisualsEvent(SmallEvent):
    """Two rooms, one with signage at a station of the services, and two servers.

    Args:
        folder: for everything.
        variables: of the event.
    """

    def __init__(self, folder: Path, **variables) -> None:
        super().__init__(folder, **variables)
        self.services = self.inventory / "services.yml"
        self.write()
        password = folder / "password"
        password.write_text(PASSWORD)
        self.environment = {"ANSIBLE_VAULT_PASSWORD_FILE": str(password)}

    def write(self, broadcasters=BROADCASTERS, web=8080) -> None:
        """Write the stations that push; the second server has a broadcaster of its own, whose password is hidden."""
        own = {"2": {"users": {"night": Vault(HIDDEN)}, "channels": [{"topic": "/topic/id/two.example/2/"}]}}
        servers = {
            "vis1": {
                "visuals": {"main": {"broadcasters": broadcasters, "token": Vault(TOKEN)}},
                "signage": {"main": {"to": ["vis1/main"], "rooms": ["hall_a"], "picture_base": BASE}},
                "web": {"station": {"port": web}},
            },
            "vis2": {"visuals": {"main": {"broadcasters": {**broadcasters, **own}}}},
        }
        hosts = {
            name: {
                "station_mac": f"02:00:00:00:08:{place:02x}",
                "ansible_host": f"127.0.0.{place}",
                "station_roles": roles,
            }
            for place, (name, roles) in enumerate(servers.items(), 20)
        }
        staged = self.services.with_suffix(".new")
        staged.write_text(_dump({"services": {"hosts": hosts}}))
        staged.rename(self.services)


class VisualsScene(Scene):
    """A manager on such an event, in this process."""

    def __init__(self, folder: Path, **settings) -> None:
        self.small = VisualsEvent(folder / "visuals")
        self.patch = pytest.MonkeyPatch()
        for name, value in self.small.environment.items():
            self.patch.setenv(name, value)
        try:
            super().__init__(folder, **{"inventory": self.small.inventory, **settings})
        except BaseException:
            self.patch.undo()
            raise

    def close(self) -> None:
        super().close()
        self.patch.undo()

    def logged(self, *messages) -> int:
        """Have messages logged, as a fallback does; return how many were new."""
        answer = self.api.post("/v1/visuals/log", json={"messages": list(messages)}, headers=self.token("visuals"))
        assert answer.status_code == 200, answer.text
        return answer.json()["stored"]


def message(body="TEXT hello", topic="/topic/fm/ce1/c221/09580/text", when=None, identity=None, **headers) -> dict:
    """A message of a log."""
    at = now() if when is None else when
    return {
        "topic": topic, "body": body, "when": at, "source": "vis1/main",
        "headers": {"message-id": identity or f"{body} {at}", **headers},
    }  # fmt: skip
