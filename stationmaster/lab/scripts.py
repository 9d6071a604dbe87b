"""The two shell programs of a station: the launcher outside and the init inside."""

from __future__ import annotations

INIT_PATH = "/usr/lib/stationmaster-lab/init"
"""Where the image keeps INIT."""

# The station's first process. With cgroup v1 systemd-nspawn mounts all
# controllers but name=systemd read-only, and systemd then ignores limits
# without a word; the launcher names those that are the station's own.
INIT = """\
#!/bin/sh
for controller; do
    mount -o remount,bind,rw "/sys/fs/cgroup/$controller"
done
exec /lib/systemd/systemd
"""

# Runs in mount and network namespaces of its own, so that the station's mounts,
# loop device and link end with its last process, whatever ended that. It stays
# as the parent of systemd-nspawn, which with --keep-unit exits with 133 to be
# started again when the station reboots.
LAUNCHER = """\
set -eu
folder=$1 lower=$2 host=$3 port=$4 address=$5 mac=$6 unified=$7
shift 7
while [ "$1" != -- ]; do
    if [ "$unified" = yes ]; then
        mkdir -p "$1/launcher" "$1/station"
        echo $$ > "$1/launcher/cgroup.procs"
        for controller in $(cat "$1/cgroup.controllers"); do
            echo "+$controller" > "$1/cgroup.subtree_control"
        done
        group=$1/station
    else
        echo $$ > "$1/cgroup.procs"
        group=$1
    fi
    shift
done
shift
: > "$folder/entered"
mount -t ext4 -o loop,discard "$folder/disk.img" "$folder/disk"
mkdir -p "$folder/disk/upper" "$folder/disk/work"
mount -t overlay -o "lowerdir=$lower,upperdir=$folder/disk/upper,workdir=$folder/disk/work" station "$folder/root"
if [ ! -e "$folder/disk/upper/etc/machine-id" ]; then
    tar --extract --no-overwrite-dir --directory="$folder/root" --file="$folder/seed.tar"
    # an honest power cut soon after the first boot must not take the station's identity
    sync -f "$folder/disk"
fi
ip -batch - <<EOF
link set lo up
link add host0 address $mac type veth peer name $port netns $host
address add $address dev host0
link set host0 up
route add 224.0.0.0/4 dev host0
EOF
: > "$folder/prepared"
while :; do
    status=0
    if [ "$unified" = yes ]; then
        sh -c 'echo $$ > "$0/cgroup.procs"; exec "$@"' "$group" "$@" || status=$?
    else
        "$@" || status=$?
    fi
    [ "$status" -eq 133 ] || exit "$status"
done
"""
