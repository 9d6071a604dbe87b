"""The applier: brings a station to its bundle in one execution.

It arrives over the connection together with its request (`stationmaster.payload`),
keeps a compiled copy of itself on the station, and imports on the way to "nothing
to change" only what starts fast.
"""
