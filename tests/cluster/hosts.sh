#!/usr/bin/env bash
# Several hosts on one machine, each with its own network, processes, mounts and name, and sshd. Run by conftest.py inside a first set of namespaces, that
# of the client; everything ends with that set's first process.
#   hosts.sh client LAB ENVIRONMENT COUNT     the client's side: a network, and its hosts
#   hosts.sh host LAB ENVIRONMENT NUMBER      one host
set -euo pipefail
role=$1 lab=$2 environment=$3 number=$4

# Private /tmp, /run and /dev/shm, the shared folder, and the Python environment under its own path, wherever that is.
private_folders() {
  mkdir -p "$1/tmp" "$1/environment"
  mount --bind "$environment" "$1/environment"
  mount --bind "$1/tmp" /tmp
  mount -t tmpfs tmpfs /run
  mount -t tmpfs -o size=8g tmpfs /dev/shm
  mount -t tmpfs tmpfs /mnt
  mkdir -p /run/sshd /mnt/shared "$environment"
  mount --bind "$lab/shared" /mnt/shared
  mount --bind "$1/environment" "$environment"
}

if [ "$role" = host ]; then
  hostname "host$number"
  touch "$lab/host$number/waiting"
  until ip link show eth0 >/dev/null 2>&1; do sleep 0.1; done
  ip link set lo up
  ip link set eth0 up
  ip address add "10.77.0.$((10 + number))/24" dev eth0
  ip route add default via 10.77.0.1
  private_folders "$lab/host$number"
  for other in "$lab"/host[0-9]* "$lab/client" "$lab/checkout" "$lab/shared"; do  # of others, and by other paths
    if [ -d "$other" ] && [ "$other" != "$lab/host$number" ]; then mount -t tmpfs tmpfs "$other"; fi
  done
  mount --bind "$lab/host$number/passwd" /etc/passwd
  exec /usr/sbin/sshd -D -e -f "$lab/sshd_config"
fi

private_folders "$lab/client"
ip link set lo up
ip link add hub type bridge
ip address add 10.77.0.1/24 dev hub
ip link set hub up
for ((each = 0; each < number; each++)); do
  unshare --mount --pid --net --uts --fork --kill-child --mount-proc bash "$0" host "$lab" "$environment" "$each" &
  until [ -e "$lab/host$each/waiting" ]; do sleep 0.1; done
  ip link add "to$each" type veth peer name eth0 netns $!
  ip link set "to$each" master hub up
done
touch "$lab/ready"
wait
