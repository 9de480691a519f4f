/** Which mount of cgroup v2 is taken, from the text of /proc/self/mountinfo on nodes of many shapes. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { cgroupMounts, chooseMount, holds, type Seen, socketTags } from '../../core/cgroup.ts'

/** Id of the mount that is reached at each path. */
type Paths = Readonly<Record<string, number>>

function chosen(mountinfo: string, paths: Paths): string | undefined {
  const look = (path: string): Seen | undefined => {
    const mount = paths[path]
    return mount === undefined ? undefined : { inode: 1, mount }
  }
  return chooseMount(cgroupMounts(mountinfo), look)?.path
}

const V1 = `33 32 0:29 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:10 - cgroup cgroup rw,memory
34 32 0:30 / /sys/fs/cgroup/net_cls,net_prio rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,net_cls,net_prio
`

describe('the mount that auto takes', () => {
  test('v2 only', () => {
    const mountinfo = `24 29 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
    assert.equal(chosen(mountinfo, { '/sys/fs/cgroup': 30 }), '/sys/fs/cgroup')
  })

  test('hybrid: v2 beside v1', () => {
    const mountinfo = `32 24 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
${V1}35 32 0:28 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:12 - cgroup2 cgroup2 rw,nsdelegate
`
    assert.equal(chosen(mountinfo, { '/sys/fs/cgroup/unified': 35 }), '/sys/fs/cgroup/unified')
  })

  test('v1 only: none', () => assert.equal(chosen(V1, {}), undefined))

  test('kind: the root of the cgroup namespace, for want of anything above it', () => {
    const mountinfo = `612 580 0:26 /kubelet.slice /var/lib/somewhere rw,relatime - cgroup2 cgroup rw,nsdelegate
598 597 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate
`
    assert.equal(chosen(mountinfo, { '/var/lib/somewhere': 612, '/sys/fs/cgroup': 598 }), '/sys/fs/cgroup')
  })

  test("a container with a private cgroup namespace and the host's mount: that one", () => {
    const mountinfo = `598 597 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate
640 580 0:26 /../../../.. /host/sys/fs/cgroup rw,nosuid,nodev,noexec,relatime master:9 - cgroup2 cgroup2 rw,nsdelegate
`
    assert.equal(chosen(mountinfo, { '/sys/fs/cgroup': 598, '/host/sys/fs/cgroup': 640 }), '/host/sys/fs/cgroup')
  })

  test('several: neither one that shows a part, nor one that a later mount hides', () => {
    const mountinfo = `61 29 0:26 /kubepods /mnt/part rw - cgroup2 cgroup2 rw
62 29 0:26 / /mnt/hidden rw - cgroup2 cgroup2 rw
63 62 0:26 /kubepods /mnt/hidden rw - cgroup2 cgroup2 rw
64 29 0:26 / /mnt/under/gone rw - cgroup2 cgroup2 rw
65 29 0:26 / /mnt/whole\\040one rw - cgroup2 cgroup2 rw
`
    const paths: Paths = { '/mnt/part': 61, '/mnt/hidden': 63, '/mnt/whole one': 65 }
    assert.equal(chosen(mountinfo, paths), '/mnt/whole one')
    assert.equal(chosen(mountinfo, { ...paths, '/mnt/whole one': 99 }), undefined)
  })

  test('without the root, the mount that reaches highest; never one beside the own branch', () => {
    const mountinfo = `70 29 0:26 / /own rw - cgroup2 none rw
71 29 0:26 /../../other /beside rw - cgroup2 none rw
72 29 0:26 /.. /parent rw - cgroup2 none rw
`
    assert.equal(chosen(mountinfo, { '/own': 70, '/beside': 71, '/parent': 72 }), '/parent')
  })
})

describe('whose processes are seen', () => {
  const rows: readonly (readonly [attached: string, cgroup: string, expected: boolean | undefined])[] = [
    ['/', '/', true],
    ['/', '/kubepods/a', true],
    ['/', '/..', false],
    ['/', '/../../user.slice', false],
    ['/', '/..data', true],
    ['/kubepods', '/kubepods', true],
    ['/kubepods', '/kubepods/a/b', true],
    ['/kubepods', '/kubepods2', false],
    ['/kubepods', '/', false],
    ['/kubepods', '/../kubepods', false],
    ['/..', '/', true],
    ['/..', '/../beside', true],
    ['/..', '/../../beside', false],
    ['/../..', '/../../user.slice', true],
    ['/../../kubepods', '/../a', undefined],
  ]
  for (const [attached, cgroup, expected] of rows) {
    test(`${cgroup} below ${attached}: ${expected ?? 'cannot be told'}`, () => assert.equal(holds(attached, cgroup), expected))
  }
})

test('controllers that tag sockets count when they are in a hierarchy of v1', () => {
  const table = (cls: number, prio: number) =>
    `#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t60\t1\nnet_cls\t${cls}\t1\t1\nperf_event\t0\t9\t1\nnet_prio\t${prio}\t1\t1\n`
  assert.deepEqual(socketTags(table(10, 0)), ['net_cls'])
  assert.deepEqual(socketTags(table(3, 3)), ['net_cls', 'net_prio'])
  assert.deepEqual(socketTags(table(0, 0)), [])
})
