"""What a caller may ask a run to do: an action of a list, on a target that the inventory has, and no more."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Action = Literal["apply", "check", "restart", "start", "stop", "rollback", "provision", "on-air"]
MINUTES = 1440
"""Longest time on air that may be asked for at once: a day."""
NAMED_ROLE: frozenset[str] = frozenset({"start", "stop", "restart"})
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
"""A name without anything that Ansible would read as a pattern. Whether the inventory has it is asked later."""


class Target(BaseModel):
    """Exactly one of everything, a room or a station."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    everything: Literal[True] | None = None
    room: Name | None = None
    station: Name | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.named()) != 1:
            raise ValueError('give exactly one of "everything": true, "room": NAME, "station": NAME')
        return self

    def named(self) -> dict[str, Any]:
        """Return what is given, without what is not."""
        return self.model_dump(exclude_none=True)


class RunRequest(BaseModel):
    """The body of `POST /v1/runs`."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {"action": "apply", "target": {"room": "hall_a"}},
                {"action": "restart", "target": {"station": "hall-a-enc"}, "role": "encode"},
                {"action": "rollback", "target": {"station": "hall-a-enc"}, "generation": 3, "reason": "worse picture"},
                {"action": "on-air", "target": {"room": "hall_a"}, "minutes": 60},
            ]
        },
    )

    action: Action
    target: Target
    role: Name | None = Field(default=None, description="Only for start, stop and restart: this station role alone.")
    minutes: int | None = Field(
        default=None, ge=0, le=MINUTES, strict=True, description="Only for on-air, and needed there; 0 ends it."
    )
    interrupt: bool = Field(default=False, strict=True, description="Only for apply: also touch live units on air.")
    dry_run: bool = Field(default=False, strict=True, description="Tell what would change, and change nothing.")
    force: bool = Field(default=False, strict=True, description="Only for apply: leave out no station.")
    generation: int | None = Field(
        default=None, ge=1, le=2**31 - 1, strict=True,
        description="Only for rollback: the generation to go back to; without it the newest before the current one "
        "that became ready.",
    )  # fmt: skip
    reason: Annotated[str, StringConstraints(max_length=500)] | None = Field(
        default=None, description="Only for rollback: shown wherever the station is."
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        given = {
            "role": (self.role is not None, NAMED_ROLE),
            "minutes": (self.minutes is not None, {"on-air"}),
            "interrupt": (self.interrupt, {"apply"}),
            "force": (self.force, {"apply"}),
            "generation": (self.generation is not None, {"rollback"}),
            "reason": (self.reason is not None, {"rollback"}),
        }
        for name, (there, actions) in given.items():
            if there and self.action not in actions:
                raise ValueError(f"{name} is for {', '.join(sorted(actions))}, not for {self.action}")
        if self.action == "on-air" and self.minutes is None:
            raise ValueError("on-air needs minutes; 0 ends it")
        return self

    def parameters(self) -> dict[str, Any]:
        """Return all but action and target, without what says nothing."""
        told = self.model_dump(exclude={"action", "target"})
        return {name: value for name, value in told.items() if value is not None and value is not False}
