"""How fallback and signage reach the messages: over the broker, or over the one instance that has none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from station.config import Config, ConfigError
from station.visuals.amqp import EXCHANGE, Broker
from station.visuals.amqp_link import Node, nodes
from station.visuals.bus import Bus
from station.visuals.feed import Feed
from station.visuals.stomp_client import places
from station.visuals.store import State


def open_bus(
    config: Config,
    references: Sequence[str],
    *,
    state: State | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Bus:
    """Return the bus that instances of visuals use.

    Args:
        config: of a program that names them.
        references: their names, `station/instance`; the first that has `brokers` decides.
        state: the last entry that is known, by which a log that began anew is told from that one.
        environment: where the original's `RABBITMQ_*` are looked for; with any of them that broker is used.

    Raises:
        ConfigError: there is no way to any of them.
    """
    if any(environment.get(f"RABBITMQ_{name}") for name in ("HOST", "PORT", "USER", "PASSWORD", "VHOST")):
        exchange = environment.get("RABBITMQ_EXCHANGE") or EXCHANGE
        return Broker([_node(environment)], exchange=exchange, state=state, keep_values=False)
    sources = [config.sources[name] for name in references if name in config.sources]
    for source in sources:
        brokers = source.options.get("brokers")
        if brokers:
            exchange = source.options.get("exchange") or EXCHANGE
            try:
                return Broker(nodes(config, brokers), exchange=exchange, state=state, keep_values=False)
            except ValueError as error:
                raise ConfigError(f"sources.{source.name}.options.brokers", str(error)) from error
    if not sources:
        raise ConfigError("options.from", "names no instance of visuals, and no RABBITMQ_HOST is set")
    return Feed(places(config, [source.name for source in sources]))


def _node(environment: Mapping[str, str]) -> Node:
    """Return the broker of the original's variables, with its defaults."""
    port = environment.get("RABBITMQ_PORT") or "5672"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError("RABBITMQ_PORT", f"is {port!r}; needed is a port from 1 to 65535")
    return Node(
        host=environment.get("RABBITMQ_HOST") or "127.0.0.1",
        port=int(port),
        user=environment.get("RABBITMQ_USER") or "guest",
        password=environment.get("RABBITMQ_PASSWORD") or "guest",
        vhost=environment.get("RABBITMQ_VHOST") or "/",
    )


def shared_token(config: Config, references: Sequence[str]) -> str | None:
    """Return the token of the instances of visuals that are named, by which the manager knows their neighbours too."""
    tokens = (config.sources[name].options.get("token") for name in references if name in config.sources)
    return next((token for token in tokens if isinstance(token, str) and token), None)
