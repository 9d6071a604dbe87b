"""A manager on the bridge of a lab, with TLS, and playbooks of a test's own."""

import socket
import subprocess
import sys

from tests.api.conftest import Served
from tests.labkit import CHECKOUT, until


class Near(Served):
    """A manager that the stations of a lab reach, at an address of this machine."""

    def __init__(self, data, host, port, *arguments, **environment):
        self.host, self.wished = host, port
        super().__init__(data, "--host", host, *arguments, **environment)

    def start(self):
        self.port, self.url = self.wished, f"https://{self.host}:{self.wished}"
        command = [sys.executable, "-m", "stationmaster", "serve", "--data", self.data, "--port", self.port]
        with (self.data.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*map(str, command), *self.arguments], cwd=CHECKOUT, stdout=log, stderr=log, env=self.environment
            )

        def answers():
            with socket.socket() as probe:
                return probe.connect_ex((self.host, self.port)) == 0

        assert until(answers, 60), (self.data.parent / "serve.log").read_text()


def project_with(folder, **playbooks):
    """The checkout by links, with some playbooks of the test's own."""
    (folder / "playbooks").mkdir(parents=True)
    for each in CHECKOUT.iterdir():
        if each.name != "playbooks":
            (folder / each.name).symlink_to(each)
    for each in (CHECKOUT / "playbooks").iterdir():
        if each.stem not in playbooks:
            (folder / "playbooks" / each.name).symlink_to(each)
    for name, text in playbooks.items():
        (folder / f"playbooks/{name}.yml").write_text(text)
    return folder
