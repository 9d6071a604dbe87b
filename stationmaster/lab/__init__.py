"""The lab: real stations on one Debian machine (systemd-nspawn, loop disks, one bridge).

`lab.present`, `lab.absent` and `lab.purged` bring a whole lab up and down,
`faults` does to its stations what happens to real ones. Everything needs root.
"""
