"""Requests over plain HTTP to what a test serves.

httpx2 would read the machine's certificate authorities for each of them: 50 ms of a processor
that the server, which a test waits for, needs itself.
"""

import functools

import httpx2

Client = functools.partial(httpx2.Client, verify=False)
delete = functools.partial(httpx2.delete, verify=False)
get = functools.partial(httpx2.get, verify=False)
post = functools.partial(httpx2.post, verify=False)
