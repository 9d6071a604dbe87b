"""Prints the datagrams of the first picture to a group: `python -m tests.stills.kit_group GROUP ADDRESS`."""

import asyncio
import json
import sys

from station.stills import multicast
from tests.stills.kit_net import datagrams_of, joined, pictures, settings, stream


async def main(group, address):
    with joined(group, address) as plug:
        sent = stream(pictures(1000, 970), "mcast_push", address=group, port=plug.getsockname()[1])
        task = asyncio.create_task(multicast.send(sent, settings(address=address)))
        print(json.dumps([one.decode("latin-1") for one in await datagrams_of(plug)]))
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
