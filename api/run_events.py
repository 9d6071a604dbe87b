"""What is kept of Ansible's events: enough to read along, bounded, and nothing that a task hides."""

from __future__ import annotations

import json
from typing import Any

TEXT = 8_000
"""Characters of printed text kept of an event."""
DATA = 64_000
"""Characters of an event's result, as JSON, beyond which only its short members are kept."""
SHORT = 2_000
"""Characters of a member that is kept of a result which is too large."""
KEPT = ("play", "task", "task_path", "task_action", "role", "pattern", "duration", "ignore_errors", "name")
DROPPED = ("invocation", "ansible_facts", "add_group")
"""Members of results that repeat a module's arguments, or carry a machine's whole description."""
WITH_RESULT = (
    "runner_on_ok",
    "runner_on_failed",
    "runner_on_unreachable",
    "runner_item_on_ok",
    "runner_item_on_failed",
)


def kept(event: dict[str, Any], project: str) -> dict[str, Any]:
    """Return what is kept of an event, without its number.

    Args:
        event: as ansible-runner hands it over.
        project: folder that paths of tasks are told below of.

    Returns:
        `kind`, `station` (or None) and `data`. What is shortened has `truncated: true`.
    """
    kind, told = str(event.get("event", "verbose")), event.get("event_data") or {}
    data = {name: told[name] for name in KEPT if told.get(name) not in (None, "", False)}
    if "task_path" in data:
        data["task_path"] = str(data["task_path"]).removeprefix(project + "/")
    result = told.get("res")
    text = str(event.get("stdout") or "")
    if isinstance(result, dict) and "censored" in result:
        # where no_log hides a result, ansible-core 2.19 prints the message of its failure all the same
        data["result"] = {"censored": result["censored"]}
    elif text:
        data["text"] = text[:TEXT]
        if len(text) > TEXT:
            data["truncated"] = True
    if kind == "playbook_on_stats":
        data["stats"] = stats_of(told)
    if isinstance(result, dict) and "result" not in data:
        if not result and kind in WITH_RESULT:
            data["truncated"] = True  # awx_display puts {} in the place of what is too large for it
        data["result"], cut = _bounded({name: value for name, value in result.items() if name not in DROPPED})
        if cut:
            data["truncated"] = True
    host = told.get("host")
    return {"kind": kind[:32], "station": str(host)[:64] if host else None, "data": data}


def stats_of(told: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return the counts of each station from the data of Ansible's last event."""
    words = {
        "ok": "ok", "changed": "changed", "failures": "failed", "dark": "unreachable", "skipped": "skipped",
        "rescued": "rescued", "ignored": "ignored",
    }  # fmt: skip
    stations: dict[str, dict[str, int]] = {
        name: dict.fromkeys(words.values(), 0) for name in told.get("processed") or {}
    }
    for key, word in words.items():
        for name, count in (told.get(key) or {}).items():
            stations.setdefault(name, dict.fromkeys(words.values(), 0))[word] = int(count)
    return stations


def _bounded(result: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    if len(json.dumps(result, default=str)) <= DATA:
        return result, False
    short = {name: value for name, value in result.items() if len(json.dumps(value, default=str)) <= SHORT}
    for name, value in result.items():
        if name not in short and isinstance(value, str):
            short[name] = value[:SHORT]
    return short, True
