"""Where the inventory's states come from: a folder that people edit, or a git branch."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import subprocess
import threading
from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from api.settings import CHECKOUT, Settings

log = logging.getLogger("stationmaster.inventory")

PAUSE = 1.0
"""Seconds without a further change before an edited folder is looked at: editors and git write several files."""
LOOK = 5.0
"""Seconds between two looks at a folder of which no change was told: a commit changes no file of it."""
SHOWN = 12
"""Hex digits of a hash of contents."""
GIT_SECONDS = 60.0
"""Longest that git may take for one fetch or work tree."""
KEPT_TREES = 5
"""Work trees kept besides those that runs use, to go back to without a fetch."""
CODE = ("roles", "templates", "station", "stationmaster")
"""Folders of the checkout that bundles are rendered with."""


class SourceProblem(Exception):
    """The inventory's newest state cannot be had; the text may be shown to everybody."""


@dataclass(frozen=True)
class State:
    """One state of the inventory, not judged yet. `key` differs whenever a bundle could."""

    revision: str
    dirty: bool
    path: Path
    key: str


class Source(Protocol):
    """What `api.inventory` follows."""

    def look(self) -> State:
        """Return the newest state; raise SourceProblem if there is none."""

    def settled(self, state: State) -> bool:
        """Return whether this is still the newest state, as far as can be said at once."""

    def wait(self, stop: threading.Event) -> None:
        """Return when there may be a newer one, or when the manager stops."""

    def remembered(self) -> State | None:
        """Return the state that was accepted last before this process began, if it is still there."""

    def accepted(self, state: State) -> None:
        """Take note that a state passed the check."""

    def tidy(self, used: Collection[str]) -> None:
        """Remove what is old, except the revisions that runs use."""


def source_of(settings: Settings) -> Source:
    """Return the source that the settings name."""
    return Branch(settings) if settings.branch else Folder(Path(settings.inventory))


def git(*arguments: str | Path, seconds: float = GIT_SECONDS) -> str:
    """Run git without ever asking anybody; return what it printed.

    Raises:
        SourceProblem: it failed; the log has what it said, for that may carry a password.
    """
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=10"),
        "LC_ALL": "C",
    }
    verb = next((str(word) for word in arguments if str(word)[:1] not in "-/."), "git")
    try:
        done = subprocess.run(
            ["git", *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceProblem(f"git {verb} did not end: {type(error).__name__}") from error
    if done.returncode != 0:
        raise SourceProblem(f"git {verb} failed with status {done.returncode}")
    return done.stdout


class _Contents:
    """Hashes of files, read again only when size or time of change differ."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], bytes]] = {}

    def hash(self, folder: Path) -> str:
        """Return the hash over names and contents of a folder's files, its `.git` and hidden folders apart."""
        total = hashlib.sha256()
        known: dict[Path, tuple[tuple[int, int, int], bytes]] = {}
        for path in sorted(_files(folder)):
            try:
                status = path.stat()
                mark = (status.st_mtime_ns, status.st_size, status.st_ino)
                before = self._known.get(path)
                digest = before[1] if before and before[0] == mark else hashlib.sha256(path.read_bytes()).digest()
            except OSError:
                continue  # gone, or a link to nowhere
            known[path] = (mark, digest)
            total.update(f"{path.relative_to(folder)}\0{status.st_mode & 0o111}\0".encode() + digest)
        self._known = known
        return total.hexdigest()[:SHOWN]


def _files(folder: Path) -> Generator[Path]:
    if folder.is_file():
        yield folder
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()  # a link that leads back up
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        yield from (Path(place, name) for name in names if not name.endswith(("~", ".swp", ".swx")))


def code_mark() -> str:
    """Return what differs when the code that bundles are rendered with was changed: a developer edits that too."""
    total = hashlib.sha256()
    for name in CODE:
        for path in sorted(_files(CHECKOUT / name)):
            with contextlib.suppress(OSError):
                status = path.stat()
                total.update(f"{path}\0{status.st_mtime_ns}\0{status.st_size}\n".encode())
    return total.hexdigest()[:SHOWN]


class Folder:
    """A folder as people edit it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents = _Contents()
        self._changes: Generator[set[Any]] | None = None

    def look(self) -> State:
        """Return the state that the folder has now."""
        if not self._folder.exists():
            raise SourceProblem("there is no such inventory folder on the manager")
        contents = self._contents.hash(self._folder)
        revision, dirty = self._revision(contents)
        key = f"{revision}+{contents}" if dirty else revision
        return State(revision, dirty, self._folder, f"{key} {contents} {code_mark()}")

    def settled(self, state: State) -> bool:
        """Compare the files only, which costs a look at the times of each."""
        return state.key.split()[1] == self._contents.hash(self._folder)

    def _revision(self, contents: str) -> tuple[str, bool]:
        at = ("-C", self._folder if self._folder.is_dir() else self._folder.parent)
        try:
            if git(*at, "ls-files", "--", "."):
                commit = git(*at, "rev-parse", "--verify", "HEAD").strip()
                return commit, bool(git(*at, "status", "--porcelain", "--", "."))
        except SourceProblem:
            pass  # in no repository, or in somebody else's
        return f"folder:{contents}", False

    def wait(self, stop: threading.Event) -> None:
        """Wait for changes and then for a pause in them, or until the next look is due."""
        changed = False
        for _ in range(math.ceil(LOOK / PAUSE)):
            begun = self._changes is not None
            told = self._told(stop)
            if stop.is_set() or (changed and not told) or not (begun or told):
                return  # also after the first pause of watching: nobody told what changed before it
            changed = changed or told

    def _told(self, stop: threading.Event) -> bool:
        """Return whether a change was told within a pause."""
        import watchfiles

        if self._changes is None:
            self._changes = watchfiles.watch(
                self._folder,
                rust_timeout=round(PAUSE * 1000),
                yield_on_timeout=True,
                stop_event=stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            )
        try:
            return bool(next(self._changes))
        except StopIteration:
            pass
        except (OSError, RuntimeError) as error:
            log.info("the inventory's folder cannot be watched (%s), so it is looked at from time to time", error)
        self._changes = None
        return stop.wait(PAUSE)

    def remembered(self) -> None:
        """Nothing: a folder has no state but its newest."""

    def accepted(self, state: State) -> None:
        """Nothing to note."""

    def tidy(self, used: Collection[str]) -> None:
        """Nothing to remove."""


class Branch:
    """A branch of a git repository: each commit in a work tree of its own."""

    def __init__(self, settings: Settings) -> None:
        self._source = str(settings.inventory)
        self._branch = settings.branch or ""
        self._below = settings.inventory_subfolder
        self._interval = settings.follow_interval
        self._folder = settings.data / "inventory"
        self._repository = self._folder / "repository.git"
        self._good = self._folder / "accepted"
        if not settings.inventory_subfolder and isinstance(settings.inventory, Path):
            with contextlib.suppress(SourceProblem):
                # a folder inside the repository may be named as well as its top
                self._source = git("-C", settings.inventory, "rev-parse", "--show-toplevel").strip() or self._source
                self._below = git("-C", settings.inventory, "rev-parse", "--show-prefix").strip()

    def look(self) -> State:
        """Fetch the branch and return the state of its last commit."""
        if not self._repository.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            git("init", "--quiet", "--bare", "--template=", self._repository)
        wanted = f"+refs/heads/{self._branch}:refs/heads/followed"
        self._git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", self._source, wanted)
        return self._state(self._git("rev-parse", "--verify", "refs/heads/followed").strip())

    def _git(self, *arguments: str | Path) -> str:
        return git("--git-dir", self._repository, *arguments)

    def _state(self, commit: str) -> State:
        folder = self._tree(commit) / self._below
        if not folder.is_dir():
            raise SourceProblem(f"commit {commit} has no folder {self._below}")
        return State(commit, False, folder, f"{commit} {code_mark()}")

    def _tree(self, commit: str) -> Path:
        """Return a work tree of exactly one commit; one that was cut off or changed is made anew."""
        tree = self._folder / commit
        if tree.exists():
            try:
                if git("-C", tree, "rev-parse", "HEAD").strip() == commit and not git(
                    "-C", tree, "status", "--porcelain", "--ignored"
                ):
                    return tree
            except SourceProblem:
                pass
            self._remove(tree)
        self._git("worktree", "prune")
        self._git("worktree", "add", "--quiet", "--force", "--detach", tree, commit)
        return tree

    def _remove(self, tree: Path) -> None:
        with contextlib.suppress(SourceProblem):
            self._git("worktree", "remove", "--force", "--force", tree)
        if tree.exists():
            import shutil

            shutil.rmtree(tree, ignore_errors=True)

    def settled(self, state: State) -> bool:
        """Yes: a commit changes nothing before it was fetched and checked."""
        return True

    def wait(self, stop: threading.Event) -> None:
        """Wait until the next fetch is due."""
        stop.wait(self._interval)

    def remembered(self) -> State | None:
        """Return the commit that was in force when the manager ended."""
        try:
            return self._state(self._good.read_text().strip())
        except (OSError, SourceProblem):
            return None

    def accepted(self, state: State) -> None:
        """Remember the commit, for the next start."""
        staged = self._good.with_suffix(".new")
        staged.write_text(state.revision)
        staged.rename(self._good)

    def tidy(self, used: Collection[str]) -> None:
        """Remove work trees that are neither among the last ones nor used by a run."""
        trees = [path for path in self._folder.iterdir() if path.is_dir() and len(path.name) in (40, 64)]
        trees.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for tree in trees[KEPT_TREES:]:
            if tree.name not in used:
                self._remove(tree)
