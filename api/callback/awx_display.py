"""Ansible's events for a run: what ansible-runner's callback tells, with one file for its way out.

ansible-runner finds this in the place of its own callback of the same name, by `AWX_LIB_DIRECTORY`. Its own writes a
file for each event and marks in the printed text, which the terminal's buffer holds up: a third more time on a run of
4,000 events. Here an event is a line, as JSON, at the end of the file that `STATIONMASTER_EVENTS` names.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
from typing import Any

from ansible.utils.display import Display
from ansible_runner.display_callback.callback import awx_display

DOCUMENTATION = """
    callback: awx_display
    short_description: Playbook event dispatcher for the manager's runs
    version_added: "2.0"
    description:
        - Writes each event as a line of JSON.
    type: stdout
    extends_documentation_fragment:
      - default_callback
    requirements:
      - Set as stdout by ansible-runner
"""


class EventLines:
    """The way out of ansible-runner's event context.

    Args:
        context: that of ansible-runner's callback.
        path: the file.
    """

    def __init__(self, context: Any, path: str) -> None:
        self._context = context
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._text: list[str] = []
        self._event: dict[str, Any] = {}

    def begin(self, _file: Any) -> None:
        """Take up an event; what is displayed until its end is its text."""
        self._event = self._context.get_begin_dict()
        self._text.clear()

    def end(self, _file: Any) -> None:
        """Write the event, in one piece: a reader takes whole lines."""
        result = self._event["event_data"].get("res")
        # where no_log hides a result, ansible-core 2.19 displays the message of its failure all the same
        hidden = isinstance(result, dict) and "censored" in result
        event = {**self._event, "stdout": "" if hidden else "\n".join(self._text)}
        rest = json.dumps(event, cls=awx_display.AnsibleJSONEncoderLocal).encode() + b"\n"
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def display(self, of_ansible: Any) -> Any:
        """Return what takes the place of `Display.display`.

        Args:
            of_ansible: that method as Ansible has it.
        """

        @functools.wraps(of_ansible)
        def display(self_: Display, msg: str, *args: Any, **more: Any) -> None:
            if awx_display.multiprocessing_context.parent_process() is not None or more.get("log_only"):
                of_ansible(self_, msg, *args, **more)  # in a worker: on to the first process
                return
            with self._context.display_lock:
                if self._context.get().get("uuid"):
                    self._text.append(msg)
                    return
                with self._context.set_local(uuid=str(uuid.uuid4())):
                    self.begin(None)
                    self._text.append(msg)
                    self.end(None)

        return display


lines = EventLines(awx_display.event_context, os.environ["STATIONMASTER_EVENTS"])
awx_display.event_context.dump_begin = lines.begin
awx_display.event_context.dump_end = lines.end
Display.display = lines.display(Display.display.__wrapped__)


class CallbackModule(awx_display.CallbackModule):  # type: ignore[misc]
    """ansible-runner's, under the name that it asks for."""
