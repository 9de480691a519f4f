import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StaticPod } from '../../core/config/schema.ts'
import type { NamespaceState, NativeError } from '../../core/native/api.ts'
import { podAddresses, takeSnapshot } from '../../core/pods/static.ts'

const pod = (name: string): StaticPod => ({
  name,
  namespace: { name: 'default', labels: {}, annotations: {} },
  labels: {},
  annotations: {},
  containers: [],
  netns: `/run/netns/${name}`,
})
const state = (cookie: bigint, inode: number): NamespaceState => ({ cookie, inode, interfaces: [], addresses: [], routes: [], rules: [] })
const error = (code: string): NativeError => Object.assign(new Error(code), { code }) as unknown as NativeError
const node = 1

test('a pod whose namespace is gone, or cannot be one, waits; so does the second pod of a namespace and the node itself', () => {
  const pods = ['a', 'b', 'c', 'd', 'e'].map(pod)
  const { placements } = takeSnapshot(pods, [state(10n, 10), error('ENOENT'), error('EINVAL'), state(10n, 10), state(1n, node)], node)
  const waiting = placements.map((placement) => ('waiting' in placement ? placement.waiting : 'placed'))
  assert.equal(waiting[0], 'placed')
  assert.match(waiting[1] ?? '', /does not exist/)
  assert.match(waiting[2] ?? '', /not a network namespace/)
  assert.match(waiting[3] ?? '', /that of pod default\/a/)
  assert.match(waiting[4] ?? '', /node's own/)
})

test('an agent that has no descriptors or no memory leaves every pod as it is', () => {
  for (const code of ['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EAGAIN', 'EINTR', 'EIO', 'ETIMEDOUT']) {
    assert.throws(() => takeSnapshot([pod('a'), pod('b')], [state(10n, 10), error(code)], node), { message: code })
    const unread = { ...state(11n, 11), users: error(code) }
    assert.throws(() => takeSnapshot([pod('a'), pod('b')], [state(10n, 10), unread], node), { message: code })
  }
})

test('addresses of the pod: the primary ones first, without those of loopback, of the link, and those that a proxy has on lo', () => {
  const address = (text: string, scope: number, secondary = false, name = 'eth0') => ({
    ...{ family: text.includes(':') ? 6 : 4, address: text, prefix: 24, index: 2, interface: name, scope, secondary },
  })
  const addresses = [
    ...[address('127.0.0.1', 254, false, 'lo'), address('10.9.0.3', 0, true), address('10.9.0.2', 0), address('::6', 0, false, 'lo')],
    ...[address('::1', 254, false, 'lo'), address('fe80::2', 253), address('fd09::2', 0), address('::7f00:6', 0, false, 'lo')],
  ] as NamespaceState['addresses']
  assert.deepEqual(podAddresses({ ...state(10n, 10), addresses }), ['10.9.0.2', 'fd09::2', '10.9.0.3'])
})

test('what a plugin or compile can see changes the signature', () => {
  const before = state(10n, 10)
  const signature = (now: NamespaceState) => takeSnapshot([pod('a')], [now], node).signature
  const ids = [{ inside: 0, outside: 100_000, count: 65_536 }]
  const others = [
    { ...before, interfaces: [{ index: 2, name: 'eth0' }] },
    { ...before, interfaces: [{ index: 3, name: 'eth0' }] },
    { ...before, interfaces: [{ index: 2, name: 'eth1' }] },
    { ...before, users: { uid: ids, gid: ids } },
    { ...before, users: error('EPERM') },
  ]
  assert.equal(new Set([before, ...others].map(signature)).size, others.length + 1)
  assert.equal(signature({ ...before }), signature(before))
})
