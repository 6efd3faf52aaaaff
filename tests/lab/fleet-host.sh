#!/bin/sh
# One host of the fleet, from the inside: fleet.py starts this in new mount, network, UTS and cgroup namespaces.
# The root is an overlay over the controller's own, with the upper half in memory: whatever the host writes (state, units,
# /tmp) is its own and gone with it. /run is empty, so the controller's systemd and D-Bus are out of reach.
set -eu

name=$1 address=$2 controller=$3 scratch=$4

echo unshared
read -r go # the controller has moved eth0 into this network namespace
test "$go" = go

mount -t tmpfs -o size=1g,mode=755 lab "$scratch"
cp "$scratch.key.pub" "$scratch/authorized_keys"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
cd "$scratch/root"
mount --rbind /dev dev
mount --rbind /proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 run run
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mount -t tracefs tracefs sys/kernel/tracing
mkdir -p run/lab/before run/sshd run/lock
cp "$scratch/authorized_keys" run/lab/
pivot_root . run/lab/before
umount -l /run/lab/before
rmdir /run/lab/before
cd /

hostname "$name"
echo "127.0.1.1 $name" >>/etc/hosts # sudo asks for its own host's address, and would wait for a resolver
ip link set lo up
ip addr add "$address" peer "$controller" dev eth0
ip link set eth0 up
ip route add default via "$controller"
sh "$5/guest/usr/local/sbin/lab-data"

sed -i 's/^root:[!*]*:/root:*:/' /etc/shadow # without PAM, sshd takes "!" for a locked account
ssh-keygen -q -t ed25519 -N '' -f /run/lab/host_key
cat >/run/lab/sshd_config <<CONFIG
ListenAddress $address
HostKey /run/lab/host_key
AuthorizedKeysFile /run/lab/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
MaxStartups 100
Subsystem sftp internal-sftp
CONFIG
exec "$(command -v sshd)" -D -e -f /run/lab/sshd_config </dev/null
