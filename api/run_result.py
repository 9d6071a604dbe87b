"""How a run ended, judged by Ansible's statistics and exit code, never by single failures: those may be rescued."""

from __future__ import annotations

from typing import Any

from api.run_events import stats_of

MESSAGE = 2_000
"""Characters of an error's message."""
JOURNAL_LINES = 20


class Summary:
    """Gathers from the events of a run what its result says.

    Args:
        stations: that the playbook has to work on.
        project: folder that places of errors are told below of.
        skipped: entries of stations that needed no work.
    """

    def __init__(self, stations: list[str], project: str, skipped: dict[str, Any]) -> None:
        self._wanted = stations
        self._skipped = skipped
        self._project = project
        self._stats: dict[str, dict[str, int]] | None = None
        self._applies: dict[str, dict[str, Any]] = {}
        self._errors: dict[str, tuple[int, dict[str, Any]]] = {}
        self._last_words = ""

    def see(self, number: int, event: dict[str, Any]) -> None:
        """Take an event into account.

        Args:
            number: its number in the run.
            event: as ansible-runner hands it over, not shortened.
        """
        kind, told = event.get("event"), event.get("event_data") or {}
        if kind == "playbook_on_stats":
            self._stats = stats_of(told)
        elif kind == "error" or (kind == "verbose" and (self._last_words or "ERROR" in str(event.get("stdout")))):
            self._last_words = (self._last_words + "\n" + str(event.get("stdout") or "")).strip()[:MESSAGE]
        host, result = told.get("host"), told.get("res")
        if not host or not isinstance(result, dict):
            return
        if isinstance(result.get("stationmaster"), dict):
            self._applies[host] = apply_told(result["stationmaster"])
        if kind in ("runner_on_failed", "runner_on_unreachable") and not told.get("ignore_errors"):
            # a failure that was rescued is followed by others or by none: a station's last one is what ended it
            self._errors[host] = (number, self._error(host, told, result))

    def _error(self, host: str, told: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        message = str(result.get("msg") or result.get("stderr") or result.get("censored") or "no message")
        error: dict[str, Any] = {
            "station": host,
            "task": told.get("task"),
            "place": str(told.get("task_path") or "").removeprefix(self._project + "/"),
            "message": message[:MESSAGE],
        }
        findings = result.get("findings")
        if isinstance(findings, list):
            error["findings"] = findings[:50]
        refusal = (result.get("stationmaster") or {}).get("error")
        if isinstance(refusal, dict):
            error["kind"] = str(refusal.get("error"))[:64]
        return error

    def result(self, rc: int | None) -> tuple[str, str, dict[str, Any]]:
        """Return the run's state, the reason for it, and the whole result.

        Args:
            rc: exit code of ansible-playbook, None if it was ended from outside.
        """
        stats = self._stats or {}
        stations = {name: self._station(name, stats.get(name)) for name in self._wanted}
        failed = {name for name, entry in stations.items() if entry["state"] in ("failed", "unreachable")}
        errors = sorted((error for name, error in self._errors.items() if name in failed), key=lambda one: one[0])
        told: dict[str, Any] = {
            "rc": rc,
            "stations": {**self._skipped, **stations},
            "error": errors[0][1] if errors else None,
        }
        states = {entry["state"] for entry in stations.values()}
        if self._stats is None:
            return "incomplete", self._last_words or "Ansible ended before it told its statistics.", told
        if "failed" in states:
            return "failed", f"{told['error']['station']}: {told['error']['message']}" if errors else "failed", told
        if "unreachable" in states:
            names = sorted(name for name in failed if stations[name]["state"] == "unreachable")
            return "unreachable", f"Could not be reached: {', '.join(names)}.", told
        if rc != 0:
            return "failed", self._last_words or f"ansible-playbook exited with {rc}.", told
        if "untouched" in states:
            names = sorted(name for name, entry in stations.items() if entry["state"] == "untouched")
            return "incomplete", f"The playbook did nothing for {', '.join(names)}.", told
        return "succeeded", "", told

    def _station(self, name: str, counts: dict[str, int] | None) -> dict[str, Any]:
        entry: dict[str, Any] = {"state": "unknown" if self._stats is None else _state_of(counts)}
        if counts:
            entry.update(counts=counts)
        if name in self._applies:
            entry["apply"] = self._applies[name]
        if name in self._errors and entry["state"] in ("failed", "unreachable"):
            entry["error"] = self._errors[name][1]
        return entry


def _state_of(counts: dict[str, int] | None) -> str:
    if counts is None:
        return "untouched"
    for word in ("failed", "unreachable", "changed", "ok"):
        if counts[word]:
            return word
    return "ok" if counts["skipped"] else "untouched"


def apply_told(told: dict[str, Any]) -> dict[str, Any]:
    """Return what the applier said of a station, as the run's result keeps it: names and reasons, bounded."""
    names = ("changed", "restarted", "started", "stopped", "removed", "interrupts", "held", "drift", "notes")
    kept: dict[str, Any] = {name: told[name][:100] for name in names if isinstance(told.get(name), list) and told[name]}
    kept["result"] = str(told.get("result"))[:32]
    for name in ("generation", "wanted", "applied", "on_air"):
        if isinstance(told.get(name), str | int | float | dict):
            kept[name] = told[name]
    failed = told.get("failed")
    if isinstance(failed, dict):
        journal = failed.get("journal")
        lines = [str(line)[:500] for line in journal[-JOURNAL_LINES:]] if isinstance(journal, list) else []
        kept["failed"] = {name: failed[name] for name in ("unit", "why", "went_back_to") if name in failed}
        kept["failed"]["journal"] = lines
    if isinstance(told.get("error"), dict):
        kept["error"] = {name: str(told["error"].get(name))[:MESSAGE] for name in ("error", "message")}
    return kept
