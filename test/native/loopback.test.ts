/** What is changed at the lo of another network namespace, and that what others have there stays. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import type { BpfObject } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import { using, usingAsync } from '../../core/scope.ts'
import { bpffs, compiled, leavesNoDescriptors, nativeError, netns } from './fixtures.ts'

const object = compiled('lo')
const pins = bpffs(native.mountBpffs)
const inside = netns('lo')
let loaded: BpfObject

before(async () => {
  loaded = await native.load(object)
})
after(() => loaded.close())

const place = () => ({ path: inside.path, inode: statSync(inside.path).ino })
const { loopback } = native
const [hasLinks, hasFilters] = [await loopback.takesLinks(), await loopback.takesFilters()]
const inode = 1 // of no network namespace

/** Packets that the programs `first` and `second` have seen while one is sent over lo. */
function packets(): [number, number] {
  const seen = () => using(loaded.map('seen'), (map) => [0, 1].map((key) => Number(map.lookup(Buffer.from([key, 0, 0, 0]))?.readBigUInt64LE() ?? 0n)))
  const old = seen()
  inside.run('/usr/bin/python3', '-c', 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))')
  const [first = 0, second = 0] = seen().map((count, index) => Number(count > (old[index] ?? 0)))
  return [first, second]
}

const tc = (...words: string[]) => inside.run('tc', ...words)
const filters = () => tc('filter', 'show', 'dev', 'lo', 'egress')
const qdiscs = () => tc('qdisc', 'show', 'dev', 'lo')

describe('a TCX link at lo', { skip: !hasLinks }, () => {
  leavesNoDescriptors()

  test('lives by its pin, tells where it is, and takes another program', async () => {
    const pin = `${pins}/lo`
    const link = await using(loaded.program('first'), (program) => loopback.attach(program, place()))
    link.pin(pin)
    link.close()
    assert.deepEqual(packets(), [1, 0])
    using(native.pinnedLink(pin), (found) => {
      assert.equal(found.info.ifindex, 1)
      assert.equal(found.info.attachType, 47)
      using(loaded.program('second'), (program) => found.update(program))
      assert.deepEqual(packets(), [0, 1])
      found.detach()
      assert.equal(found.info.ifindex, 0)
    })
    assert.deepEqual(packets(), [0, 0])
    execFileSync('rm', [pin])
  })

  test('runs before those that are there, and they run too', async () => {
    using(loaded.program('stop'), (program) => program.pin(`${pins}/stop`))
    tc('qdisc', 'add', 'dev', 'lo', 'clsact')
    tc('filter', 'add', 'dev', 'lo', 'egress', 'bpf', 'da', 'object-pinned', `${pins}/stop`)
    const program = loaded.program('first')
    const other = loaded.program('second')
    const links = [await loopback.attach(other, place()), await loopback.attach(program, place())]
    try {
      assert.deepEqual(packets(), [1, 1], 'the filter of somebody else drops it only after both')
      assert.match(filters(), /stop/)
    } finally {
      for (const each of [...links, program, other]) each.close()
      tc('qdisc', 'del', 'dev', 'lo', 'clsact')
      execFileSync('rm', [`${pins}/stop`])
    }
  })

  test('another namespace than the one that is meant', async () => {
    await usingAsync(loaded.program('first'), (program) =>
      assert.rejects(loopback.attach(program, { path: inside.path, inode }), nativeError('ESTALE')),
    )
  })
})

describe('a filter at lo', { skip: !hasFilters }, () => {
  leavesNoDescriptors()

  const add = async (name: string) => {
    const program = loaded.program(name)
    const made = await loopback.addFilter(program, place()).finally(() => program.close())
    return made.madeQdisc
  }

  test('alone: it brings the qdisc, gets another program, and takes the qdisc along', async () => {
    assert.equal(await loopback.filter(place()), undefined)
    assert.equal(await add('first'), true)
    assert.deepEqual(packets(), [1, 0])
    assert.equal(await add('second'), false)
    assert.deepEqual(packets(), [0, 1])
    const found = await loopback.filter(place())
    assert.equal(native.programById(found?.programId ?? 0)?.name, 'second')
    assert.equal(found?.priority, 1)
    await loopback.removeFilter(place(), true)
    assert.deepEqual(packets(), [0, 0])
    assert.equal(filters() + qdiscs().replace(/.*noqueue.*\n/, ''), '')
    await loopback.removeFilter(place(), true)
  })

  test('beside those of others: all run, ours first, and theirs stay', async () => {
    using(loaded.program('second'), (program) => program.pin(`${pins}/second`))
    tc('qdisc', 'add', 'dev', 'lo', 'clsact')
    tc('filter', 'add', 'dev', 'lo', 'egress', 'prio', '1', 'protocol', 'ip', 'u32', 'match', 'ip', 'protocol', '99', '0xff')
    tc('filter', 'add', 'dev', 'lo', 'egress', 'prio', '2', 'bpf', 'da', 'object-pinned', `${pins}/second`)
    const before = filters()
    assert.equal(await add('first'), false)
    assert.equal((await loopback.filter(place()))?.priority, 2, 'at 1 there are filters of another kind')
    assert.deepEqual(packets(), [1, 1])
    await loopback.removeFilter(place(), true)
    assert.equal(filters(), before)
    assert.deepEqual(packets(), [0, 1])
    tc('filter', 'del', 'dev', 'lo', 'egress')
    await loopback.removeFilter(place(), false)
    assert.match(qdiscs(), /clsact/, "the qdisc is somebody else's")
    tc('qdisc', 'del', 'dev', 'lo', 'clsact')
    execFileSync('rm', [`${pins}/second`])
  })

  test('a qdisc that we made stays for the filter that somebody else has put there, also at ingress', async () => {
    assert.equal(await add('first'), true)
    tc('filter', 'add', 'dev', 'lo', 'ingress', 'protocol', 'ip', 'u32', 'match', 'ip', 'protocol', '99', '0xff')
    await loopback.removeFilter(place(), true)
    assert.match(qdiscs(), /clsact/)
    assert.equal(filters(), '')
    tc('qdisc', 'del', 'dev', 'lo', 'clsact')
  })

  test('where the qdisc "ingress" is in its place it is refused, and that one stays', async () => {
    tc('qdisc', 'add', 'dev', 'lo', 'ingress')
    await assert.rejects(add('first'), nativeError('EBUSY', /ingress/))
    assert.match(qdiscs(), /ingress/)
    tc('qdisc', 'del', 'dev', 'lo', 'ingress')
  })
})

describe('addresses and routes of lo', () => {
  leavesNoDescriptors()
  const ids = 'fd6d:6572:6272:6964::/96'
  const arrives = `
import socket
taker, giver = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2)]
taker.bind(("::", 0)), taker.settimeout(5)
giver.sendto(b"x", ("fd6d:6572:6272:6964::77", taker.getsockname()[1]))
taker.recv(1)`
  const ip = (...words: string[]) => inside.run('ip', '-6', ...words)

  test('an address is usable at once; one that is there is told, and so is one that is not', async () => {
    assert.equal(await loopback.add('address', '::6/128', place()), true)
    assert.match(ip('address', 'show', 'dev', 'lo'), /inet6 ::6\/128 scope global nodad/)
    inside.run('/usr/bin/python3', '-c', 'import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).bind(("::6", 0))')
    assert.equal(await loopback.add('address', '::6/128', place()), false)
    assert.equal(await loopback.remove('address', '::6/128', place()), true)
    assert.doesNotMatch(ip('address', 'show', 'dev', 'lo'), /::6/)
    assert.equal(await loopback.remove('address', '::6/128', place()), false)
  })

  test('a route makes a network local; one of somebody else stays', async () => {
    assert.equal(await loopback.add('route', ids, place()), true)
    inside.run('/usr/bin/python3', '-c', arrives)
    assert.equal(await loopback.add('route', ids, place()), false)
    assert.equal(await loopback.remove('route', ids, place()), true)
    assert.equal(await loopback.remove('route', ids, place()), false)
    ip('route', 'add', 'local', ids, 'dev', 'lo', 'table', 'local')
    assert.equal(await loopback.add('route', ids, place()), false)
    assert.equal(await loopback.remove('route', ids, place()), false, 'it is not ours')
    assert.match(ip('route', 'show', 'table', 'local'), /fd6d:6572:6272:6964::\/96/)
    ip('route', 'del', 'local', ids, 'dev', 'lo', 'table', 'local')
  })

  test('where lo has no IPv6 the kernel says so', async () => {
    inside.run('sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=1')
    await assert.rejects(loopback.add('address', '::6/128', place()), nativeError('EACCES'))
    inside.run('sysctl', '-qw', 'net.ipv6.conf.lo.disable_ipv6=0')
  })

  test('a namespace that is gone, and another one than is meant', async () => {
    await assert.rejects(loopback.add('address', '::6/128', { path: '/run/netns/none', inode }), nativeError('ENOENT'))
    await assert.rejects(loopback.add('address', '::6/128', { path: inside.path, inode }), nativeError('ESTALE'))
    assert.doesNotMatch(ip('address', 'show', 'dev', 'lo'), /::6/)
  })
})
