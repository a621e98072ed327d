#!/bin/sh
# The guest's first process: file trees, modules in their order, the scenario of the command line, power off.
export PATH=/tools:/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
ip link set lo up
for word in $(cat /proc/cmdline); do
    case $word in scenario=*) scenario=${word#scenario=} ;; esac
done
while read -r module; do
    # The bare machine has yet to be told that it needs VFIO.
    case $scenario:$module in bare:vfio*) continue ;; esac
    insmod "/modules/$module.ko" || echo "GUEST module $module did not load"
done </modules/order
# The console is for checks; the kernel's log keeps the rest.
dmesg -n 1
/bin/in_guest "$scenario"
echo "GUEST ended with $?"
sync
poweroff -f
