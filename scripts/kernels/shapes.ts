/** Shapes of nodes: what the guest's init does about cgroups before the checks run, in POSIX sh. */

export interface Shape {
  readonly about: string
  /** Mounts; the last command may `exec`, then it runs "$@" in what it has made. */
  readonly script: string
  /** More words of the kernel's command line. */
  readonly append?: string
  /** Runs in CI too: it is the only place that has this. (The machine that runs the ring `kernel` is hybrid more often than not.) */
  readonly ci?: true
}

/** The shape that runs when nothing else is asked for. */
export const plainShape = 'v2'

const plain = 'mount -t cgroup2 none /sys/fs/cgroup'

// A controller that this kernel has no v1 of is left out; the named hierarchy always exists.
const hybrid = `
mount -t tmpfs none /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd
for controllers in cpu,cpuacct pids net_cls,net_prio freezer; do
	mkdir /sys/fs/cgroup/$controllers
	mount -t cgroup -o $controllers none /sys/fs/cgroup/$controllers 2>/dev/null || rmdir /sys/fs/cgroup/$controllers
done
mount -t cgroup2 none /sys/fs/cgroup/unified`

const several = `
mkdir /run/first /run/second
mount -t cgroup2 none /run/first
mkdir /run/first/part
mount --bind /run/first/part /sys/fs/cgroup
umount /run/first
mount -t cgroup2 none /run/first
mount -t cgroup2 none /run/second`

const nested = `
mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/nested
echo $$ >/sys/fs/cgroup/nested/cgroup.procs
exec unshare --cgroup --mount sh -c 'umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"' nested "$@"`

const hiddenBtf = `
cp /sys/kernel/btf/vmlinux /run/vmlinux.btf
mount -t tmpfs none /sys/kernel/btf
export MERBRIDGE_TEST_BTF=/run/vmlinux.btf`

export const shapes: Readonly<Record<string, Shape>> = {
  [plainShape]: { about: 'cgroup v2 at /sys/fs/cgroup', script: plain },
  hybrid: { about: 'controllers of v1 under /sys/fs/cgroup, v2 at /sys/fs/cgroup/unified', script: hybrid },
  several: { about: 'v2 in three places, the first of them only a part of it', script: several },
  nested: { about: 'agent and pods in a cgroup namespace of their own', script: nested },
  lockdown: {
    about: 'as `several`; the kernel is locked down (lockdown=confidentiality), so programs may not read its memory',
    script: several,
    append: 'lockdown=confidentiality',
    ci: true,
  },
  nobtf: { about: 'as `nested`; the kernel shows no BTF, and the config names a file with it', script: hiddenBtf + nested },
}
