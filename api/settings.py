"""What the manager is told at its start; a bad value ends it there with the reason."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

CHECKOUT = Path(__file__).resolve().parents[1]
"""Where the code is: playbooks, roles and the default inventory."""

REMOTE = re.compile(r"[a-z+]+://|[^/@:]+@[^/:]+:")
"""A repository on another machine: `https://…`, `ssh://…`, `user@host:path`."""


class Settings(BaseSettings):
    """Settings by name, or from the environment as `STATIONMASTER_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="STATIONMASTER_", frozen=True, extra="ignore")

    data: Path
    """Folder of database, runs, keys; made with mode 0700."""
    inventory: Path | str = CHECKOUT / "inventory"
    """The event's inventory: a folder that is watched, or with `branch` a git repository, by its path or its URL."""
    branch: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$")
    """Git branch of the inventory's repository to follow; without one the folder itself is watched."""
    project: Path = CHECKOUT
    """Folder of site.yml, playbooks and ansible.cfg that runs use."""
    inventory_subfolder: str = Field(default="", pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*/?)*$")
    """Where in that repository the inventory is, if it is not its top."""
    follow_interval: float = Field(default=5.0, gt=0)
    """Seconds between two fetches of `branch`."""
    database_url: str | None = None
    """SQLAlchemy's address of the database; by default SQLite in `data`."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8443, ge=0, le=65535)
    """TCP port to listen on."""
    certificate: Path | None = None
    """PEM file with certificate chain; with `key` the manager speaks TLS."""
    key: Path | None = None
    """PEM file with the key of `certificate`."""
    journals: Path | None = None
    """Folder where systemd-journal-remote keeps the stations' journals; without it the API has none."""
    push: bool = False
    """Whether a station that is not as wanted, or an edit of the inventory, starts a run by itself."""
    hello_interval: float = Field(default=5.0, gt=0)
    """Seconds between two hellos of a station, before spreading."""
    hold_alerts: float = Field(default=90.0, ge=0)
    """Seconds after the manager's own start in which no station is called late or lost."""
    runs_at_once: int = Field(default=4, ge=1)
    """Runs that this process lets work side by side."""
    run_timeout: float = Field(default=3600.0, gt=0)
    """Seconds for a whole run."""
    silence_timeout: float = Field(default=600.0, gt=0)
    """Seconds without an event after which a run is ended."""
    wait_timeout: float = Field(default=3600.0, gt=0)
    """Seconds that a run waits for its stations before it is given up."""
    retention_days: float = Field(default=30.0, gt=0)
    """Days that ended runs and their events are kept."""
    message_seconds: float = Field(default=86400.0, gt=0)
    """Seconds that messages to topics are kept."""
    messages_kept: int = Field(default=200_000, ge=1)
    """Messages to topics that are kept at most; the oldest go first."""
    run_units: bool = False
    """Whether each run is a systemd unit of its own: deployed, the end of the manager's unit would end a child."""

    @field_validator("data", "project", mode="after")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.absolute()

    @field_validator("inventory", mode="before")
    @classmethod
    def _path_or_url(cls, place: Path | str) -> Path | str:
        return str(place) if REMOTE.match(str(place)) else Path(place).absolute()

    @model_validator(mode="after")
    def _branch_of_url(self) -> Settings:
        if isinstance(self.inventory, str) and not self.branch:
            raise ValueError("an inventory at a URL needs the branch to follow")
        return self

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the database."""
        return self.database_url or f"sqlite:///{self.data}/manager.db"

    def make_data(self) -> None:
        """Make the data folder, readable by its owner only."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
