#!/bin/busybox sh
# The guest's first process: makes the machine usable, runs the checks, powers off. /shape.sh and /selection come from the harness.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/busybox HOME=/root NODE_DISABLE_COLORS=1 NODE_COMPILE_CACHE=/opt/merbridge/compile-cache NODE_COMPILE_CACHE_PORTABLE=1
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
$bb mount -t tmpfs tmp /tmp
$bb mount -t tmpfs run /run
mkdir /run/busybox && $bb --install -s /run/busybox # after the real ones in PATH
$bb mount -t bpf bpf /sys/fs/bpf
# A module that is built in, or that this kernel refuses, shows where it is missed.
while read -r module; do $bb insmod "/modules/$module" || echo "init: insmod $module failed"; done </modules/order
for port in /sys/class/virtio-ports/*; do results=/dev/${port##*/}; done
ip link set lo up
# Code that the kernel patches when a feature is used for the first time, or not any more, is patched with a breakpoint, which QEMU's threads may run on the
# other CPU when it has gone already. So what the checks turn on and off is on from here to the end (guest.ts has the rest).
/bin/sh /hold.sh
/bin/sh -c '. /shape.sh; exec "$@"' shape node /opt/merbridge/dist/test/kernels/guest.js "$results" "$($bb cat /selection)" || echo "init: the checks ended with $?"
$bb sync
$bb poweroff -f
