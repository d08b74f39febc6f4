#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs packages into an overlay: install.sh WORKDIR LOWER MIRROR SUITE PACKAGE...
# WORKDIR/upper keeps what they add. Called in a mount namespace of its own, so it undoes no mounts.
set -eu
umask 022
work=$1 lower=$2 mirror=$3 suite=$4
shift 4

root=$work/merged
mkdir "$work/upper" "$work/work" "$root"
# Features that would write what only an overlay can read are off: the upper directory becomes a layer.
mount -t overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work,redirect_dir=off,metacopy=off,index=off" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/var/cache/apt"
mount -t tmpfs tmpfs "$root/var/lib/apt/lists"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"

# No package may start its service here.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
echo "deb $mirror $suite main" >"$root/etc/apt/sources.list"

# A frozen mirror's lists are past their date some day.
chroot "$root" apt-get --quiet --option Acquire::Check-Valid-Until=false --option Acquire::Languages=none update
chroot "$root" apt-get --quiet --yes --no-install-recommends --option Dpkg::Options::=--force-unsafe-io install "$@"

rm "$root/usr/sbin/policy-rc.d" "$root/etc/apt/sources.list"
