"""The station role `upload`: finished products go to a target, verified, with a receipt.

One product at a time; one that fails waits longer and longer and holds up no other.
Nothing of the original is ever changed or deleted. Run it by hand as
`python3 -m station.upload --config FILE`; with `--give-up ID` or `--retry ID` it only
notes a person's decision about a product that keeps failing.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from station import config as configuration
from station import notify, utc
from station.beat import Beat, Stopped
from station.config import Config, ConfigError
from station.decisions import Decisions
from station.deliver import Conflict, Delivery, DeliveryError
from station.download import SourceAway
from station.incoming import INCOMING
from station.products import MANIFEST, BadProduct, Product, products
from station.rclone import RcloneError
from station.records import Failures, Receipts
from station.script_job import ScriptError, run_script
from station.uplink import Uplink
from station.words import amount

log = logging.getLogger(__name__)
RESERVE = 1 << 30
"""Bytes that the spool for products of other stations leaves free: an ingest may record on the same disk."""


class ScriptFailed(Exception):
    """The crew's program said no; `output` is the end of what it printed."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


class Uploader:
    """Uploads all products of one source to one target."""

    def __init__(self, config: Config, beat: Beat) -> None:
        """Set all up. Raises ConfigError, OSError."""
        self._config = config
        self._beat = beat
        self._uplink = Uplink(config, beat)
        name = config.option("from", str)
        if name not in config.sources:
            raise ConfigError("options.from", f"is {name!r}; known are {', '.join(config.sources) or 'none'}")
        self._source = config.sources[name]
        data = config.paths.data
        self._products = products(self._source, data / "spool", RESERVE)
        self._receipts = Receipts(data / "receipts")
        self._failures = Failures(data / "failed.json", config.budget.input_timeout)
        self._decisions = Decisions(data / "decisions")
        self._script = config.options.get("script")

    def run(self) -> None:
        """Upload until stopped (raises Stopped)."""
        notify.ready("looking for products")
        while True:
            self._beat.tick()
            if not self.turn():
                self._beat.wait(self._config.budget.input_timeout)

    def turn(self) -> bool:
        """Look at the source and upload one product that is due; False if there was none."""
        try:
            found = self._products.scan()
        except SourceAway as error:
            self._uplink.say("waiting", f"waiting for {self._source.name}: {error}", failed=len(self._failures.rows()))
            return False
        todo, failed = self._sort(found)
        self._metrics(todo, failed)
        now = time.time()
        due = [product for product in todo if self._failures.due(product.id, product.version) <= now]
        if not due:
            self._rest(todo, failed)
            return False
        self._attempt(min(due, key=lambda product: self._failures.attempts(product.id, product.version)), len(todo))
        return True

    def _sort(self, found: Mapping[str, Product | BadProduct]) -> tuple[list[Product], int]:
        """Return what is to be uploaded (in the order of ids) and how many are given up or cannot be."""
        for name in self._decisions.take_retries():
            self._failures.drop(name)
        given_up = self._decisions.given_up()
        todo, failed = [], 0
        for name, product in sorted(found.items()):
            if isinstance(product, BadProduct):
                failed += 1
                if self._failures.due(name, str(product)) <= time.time():
                    self._fail(name, str(product), product)
            elif name in given_up:
                failed += 1
            elif not self._has_receipt(product):
                todo.append(product)
        self._failures.keep(found)
        return todo, failed

    def _has_receipt(self, product: Product) -> bool:
        receipt = self._receipts.get(product.id)
        return receipt is not None and receipt.get("manifest_sha256") == product.version

    def _attempt(self, product: Product, left: int) -> None:
        about = f"uploading {product.id} to {self._uplink.target}" + (f" ({left - 1} more)" if left > 1 else "")
        self._uplink.say("uploading", about, id=product.id, size=product.size, backlog=left)
        begun = time.monotonic()
        try:
            folder = self._products.fetch(product, self._beat.tick)
            result = self._by_script(product, folder) if self._script else self._deliver(product, folder)
            self._write_receipt(product, result)
        except (RcloneError, DeliveryError, SourceAway, BadProduct, ScriptError, ScriptFailed, OSError) as error:
            self._fail(product.id, product.version, error)
            return
        self._failures.drop(product.id)
        self._products.release(product)
        log.info("%s: %s uploaded and verified in %.0f s", product.id, amount(product.size), time.monotonic() - begun)

    def _deliver(self, product: Product, folder: Path) -> dict[str, Any]:
        """Send and verify; returns what the receipt says of the target."""
        rclone = self._uplink.rclone()
        staging = "/".join([INCOMING, self._uplink.staging, f"{product.id}-{product.version[:8]}"])
        large = self._uplink.large()
        delivery = Delivery(rclone, folder, product.items, staging, self._beat.tick, large=large)
        # A replaced product goes beside the earlier one: what has its final name at the target stays as it is.
        for name in (product.id, f"{product.id}.{product.version[:8]}"):
            final = "/".join([*self._uplink.place, name])
            same, differ = delivery.state(final)
            if not differ:
                verified = delivery.run(final, same)
                locate = self._uplink.remote.locate
                urls = {item.name: locate(*final.split("/"), *item.name.split("/")) for item in product.items}
                return {"verified_by": verified, "url": locate(*final.split("/")), "urls": urls}
        raise Conflict(
            f"{self._uplink.remote.locate(final)}: other files have these names ({', '.join(sorted(differ))})"
        )

    def _by_script(self, product: Product, folder: Path) -> dict[str, Any]:
        """Have the crew's program do it; exit 0 is success."""
        job = {
            "id": product.id,
            "title": product.manifest.get("title", ""),
            "presenters": product.manifest.get("presenters", []),
            "event": self._config.event,
            "room": self._config.room,
            "target": {"name": self._uplink.target, "type": self._uplink.remote.kind, "url": self._uplink.remote.url},
            "folder": str(folder),
            "manifest": str(folder / MANIFEST),
            "files": [str(folder / item.name) for item in product.items if item.name != MANIFEST],
        }
        result = run_script(str(self._script), job, folder=self._config.paths.data, tick=self._beat.tick)
        if not result.ok:
            raise ScriptFailed(f"{Path(str(self._script)).name}: {result.reason}", result.output)
        return {"verified_by": f"exit status 0 of {self._script}", "output": result.output}

    def _write_receipt(self, product: Product, result: dict[str, Any]) -> None:
        urls = result.pop("urls", {})
        receipt = {
            "id": product.id,
            "title": product.manifest.get("title", ""),
            "target": self._uplink.target,
            "source": self._source.name,
            "manifest_sha256": product.version,
            "files": [
                {"name": item.name, "size": item.size, "sha256": item.sha256, "url": urls.get(item.name)}
                for item in product.items
            ],
            "ranges": product.manifest.get("ranges", []),
            **result,
            "verified_at": utc.to_text(time.time()),
        }
        if self._receipts.get(product.id) is not None:
            # Recorders read a receipt once: what a replaced product covers comes under a name that is new to them.
            self._receipts.write(receipt, name=f"{product.id}.{product.version[:8]}")
        self._receipts.write(receipt)

    def _fail(self, name: str, version: str, error: Exception) -> None:
        text = self._uplink.remote.scrub(str(error) or type(error).__name__)
        delay = self._failures.add(name, version, text, output=getattr(error, "output", ""))
        log.error("%s failed, next try in %.0f s: %s", name, delay, text)

    def _rest(self, todo: list[Product], failed: int) -> None:
        """Say why nothing is being uploaded."""
        done, rows = len(self._receipts.ids()), self._failures.rows()
        if not todo and not failed:
            self._uplink.say("idle", f"all uploaded: {done} with a receipt", receipts=done, backlog=0, failed=0)
            return
        why = rows[0]["last_error"] if rows else "given up"
        text = f"{len(todo)} waiting for another try, {failed} stuck, {done} done: {why}"
        self._uplink.say("failing", text, receipts=done, backlog=len(todo), failed=len(rows))

    def _metrics(self, todo: list[Product], failed: int) -> None:
        put, target = self._uplink.metrics.set, self._uplink.target
        put("stationmaster_upload_backlog", len(todo), "Products without a receipt.", target=target)
        put("stationmaster_upload_backlog_bytes", sum(p.size for p in todo), "Their bytes.", target=target)
        put(
            "stationmaster_upload_stuck",
            failed,
            "Products given up, or that cannot be uploaded as they are.",
            target=target,
        )
        put(
            "stationmaster_upload_failing",
            len(self._failures.rows()),
            "Products whose last attempt failed.",
            target=target,
        )
        put("stationmaster_upload_receipts", len(self._receipts.ids()), "Products with a receipt.", target=target)


def run(config: Config) -> int:
    """Run the role until it is asked to stop; returns the exit status."""
    beat = Beat()
    beat.install()
    try:
        Uploader(config, beat).run()
    except Stopped:
        notify.stopping()
    except OSError as error:
        # The disk, or a program that is not installed: nothing that waiting within this process would mend.
        log.error("cannot go on: %s", error)
        return 1
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--give-up", metavar="ID")
    parser.add_argument("--retry", metavar="ID")
    known, _ = parser.parse_known_args(argv)
    if known.config and (known.give_up or known.retry):
        decisions = Decisions(configuration.load(known.config).paths.data / "decisions")
        if known.give_up:
            decisions.give_up(known.give_up)
        if known.retry:
            decisions.retry(known.retry)
        return 0
    return configuration.program("upload", run, argv)


if __name__ == "__main__":
    sys.exit(main())
