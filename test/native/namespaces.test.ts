import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readlinkSync, statSync, writeFileSync } from 'node:fs'
import { before, describe, it } from 'node:test'
import type { NamespaceState, NativeError } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import { compiled, leavesNoDescriptors, nativeError, netns, temporaryDirectory, turnsDuring } from './fixtures.ts'

const { inspect, listeners, hasNatRules, natPorts, iterate } = native.namespaces

const pod = netns('n')
const empty = netns('e')
const policies = netns('r')
const natNft = netns('x')
const natLegacy = netns('y')
const sockets = compiled('sockets')
const directory = temporaryDirectory()

function state(result: NamespaceState | NativeError | undefined): NamespaceState {
  assert(result !== undefined && 'cookie' in result, String(result))
  return result
}

before(() => {
  for (const command of [
    'link add eth0 type veth peer name peer0',
    'link set peer0 up',
    'link set eth0 up',
    'addr add 10.9.0.2/24 dev eth0',
    'addr add 10.9.0.3/24 dev eth0',
    'addr add 10.9.7.7/32 dev eth0 label eth0:x',
    'addr add fd09::2/64 dev eth0 nodad',
    'route add default via 10.9.0.1',
    'route add 10.50.0.0/16 via 10.9.0.1 src 10.9.0.3 metric 7',
    'route add unreachable 10.66.0.0/16',
    'route add blackhole fd66::/32',
    'route add 10.77.0.0/16 table 1000 via 10.9.0.1',
    'route add 10.88.0.0/16 nexthop via 10.9.0.4 dev eth0 nexthop via 10.9.0.5 dev eth0',
  ])
    pod.run('ip', ...(/fd66/.test(command) ? ['-6'] : []), ...command.split(' '))
})

describe('what a namespace has', () => {
  leavesNoDescriptors()

  it('has its cookie and inode', async () => {
    const [mine, other, again] = (await inspect(['/proc/self/ns/net', pod.path, pod.path])).map(state)
    assert.equal(other?.inode, statSync(pod.path).ino)
    assert.equal(other?.cookie, again?.cookie)
    assert.notEqual(mine?.cookie, other?.cookie)
    assert(typeof other?.cookie === 'bigint' && other.cookie > 0n)
  })

  it('has its addresses, secondary ones too', async () => {
    const { addresses } = state((await inspect([pod.path]))[0])
    const [index] = addresses.filter((address) => address.interface === 'eth0').map((address) => address.index)
    const global = addresses.filter((address) => address.scope === 0)
    const common = { index, interface: 'eth0', scope: 0 }
    assert.deepEqual(global, [
      { family: 4, address: '10.9.0.2', prefix: 24, ...common, secondary: false },
      { family: 4, address: '10.9.7.7', prefix: 32, ...common, secondary: false },
      { family: 4, address: '10.9.0.3', prefix: 24, ...common, secondary: true },
      { family: 6, address: 'fd09::2', prefix: 64, ...common, secondary: false },
    ])
    const local = addresses.filter((address) => address.interface === 'lo').map(({ address, prefix, scope }) => `${address}/${prefix} ${scope}`)
    assert.deepEqual(local, ['127.0.0.1/8 254', '::1/128 254'])
    assert(addresses.some(({ address, scope }) => address.startsWith('fe80::') && scope === 253))
  })

  it('has its routes of all tables', async () => {
    const { routes, addresses } = state((await inspect([pod.path]))[0])
    const index = addresses.find((address) => address.interface === 'eth0')?.index
    const find = (destination: string) => routes.filter((route) => route.destination === destination)
    const common = { family: 4, prefix: 16, table: 254, type: 1, metric: 0 }
    assert.deepEqual(find('0.0.0.0'), [{ ...common, destination: '0.0.0.0', prefix: 0, gateway: '10.9.0.1', index }])
    assert.deepEqual(find('10.50.0.0'), [{ ...common, destination: '10.50.0.0', metric: 7, source: '10.9.0.3', gateway: '10.9.0.1', index }])
    assert.deepEqual(find('10.66.0.0'), [{ ...common, destination: '10.66.0.0', type: 7 }])
    assert.deepEqual(find('10.77.0.0'), [{ ...common, destination: '10.77.0.0', table: 1000, gateway: '10.9.0.1', index }])
    assert.deepEqual(find('10.88.0.0'), [{ ...common, destination: '10.88.0.0', gateway: '10.9.0.4', index }])
    assert.deepEqual(
      find('10.9.0.3').map(({ table, type, prefix }) => [table, type, prefix]),
      [[255, 2, 32]],
    )
    const [blackhole] = find('fd66::')
    assert.deepEqual([blackhole?.family, blackhole?.prefix, blackhole?.type], [6, 32, 6])
    assert(find('fd09::').some(({ prefix, table }) => prefix === 64 && table === 254))
  })

  it('has its rules of policy routing, with what they look at', async () => {
    const lines = {
      4: [
        'pref 1 from 10.1.0.0/16 to 10.2.3.4/8 lookup 70000',
        'pref 2 iif lo fwmark 0x10/0xff prohibit',
        'pref 3 not fwmark 7 lookup main suppress_prefixlength 0',
        'pref 4 uidrange 1-2 ipproto tcp dport 80 lookup 5',
        'pref 5 oif eth0 tos 0x10 goto 9',
      ],
      6: ['pref 1 to fd01::/16 unreachable', 'pref 2 from fd02::/32 sport 5-6 blackhole'],
    }
    for (const family of [4, 6] as const) for (const line of lines[family]) policies.run('ip', `-${family}`, 'rule', 'add', ...line.split(' '))
    const { rules } = state((await inspect([policies.path]))[0])
    const plain = { action: 1, table: 0, inverted: false, mark: 0, mask: 0, suppress: -1, others: [] }
    const local = { ...plain, priority: 0, table: 255 }
    const main = { ...plain, priority: 32766, table: 254 }
    const of = (family: 4 | 6) => rules.filter((rule) => rule.family === family).map(({ family: _, ...rule }) => rule)
    assert.deepEqual(of(4), [
      local,
      { ...plain, priority: 1, table: 70000, from: '10.1.0.0/16', to: '10.2.3.4/8' },
      { ...plain, priority: 2, action: 8, iif: 'lo', mark: 0x10, mask: 0xff },
      { ...plain, priority: 3, table: 254, inverted: true, mark: 7, mask: 0xffffffff, suppress: 0 },
      { ...plain, priority: 4, table: 5, others: ['dport', 'ipproto', 'uidrange'] },
      { ...plain, priority: 5, action: 2, others: ['goto', 'oif', 'tos'] },
      main,
      { ...plain, priority: 32767, table: 253 },
    ])
    assert.deepEqual(of(6), [
      local,
      { ...plain, priority: 1, action: 7, to: 'fd01::/16' },
      { ...plain, priority: 2, action: 6, from: 'fd02::/32', others: ['sport'] },
      main,
    ])
  })

  it('is the same as what iproute2 shows', async () => {
    const { routes, interfaces, users } = state((await inspect([pod.path]))[0])
    const links = JSON.parse(pod.run('ip', '-j', 'link', 'show')) as { ifindex: number; ifname: string }[]
    assert.deepEqual(
      interfaces,
      links.map(({ ifindex, ifname }) => ({ index: ifindex, name: ifname })),
    )
    assert.equal(users, undefined, 'its user namespace is the one of this process')
    interface Shown {
      dst: string
    }
    const shown = ['-4', '-6'].flatMap((family) => JSON.parse(pod.run('ip', '-j', family, 'route', 'show', 'table', 'all')) as Shown[])
    assert.equal(routes.length, shown.length)
    const bits = { 4: 32, 6: 128 }
    const text = routes.map(({ destination, prefix, family }) =>
      prefix === 0 ? 'default' : prefix === bits[family] ? destination : `${destination}/${prefix}`,
    )
    assert.deepEqual(text.sort(), shown.map(({ dst }) => dst).sort())
  })

  it('gives an error for what is no namespace, and reads the others', async () => {
    const file = `${directory}/file`
    const fifo = `${directory}/fifo`
    writeFileSync(file, '')
    execFileSync('mkfifo', [fifo])
    const results = await inspect([pod.path, file, fifo, `${directory}/none`, '/proc/self/ns/mnt', directory, empty.path])
    assert.equal(results.length, 7)
    assert(state(results[0]).addresses.length > 4)
    for (const index of [1, 2, 4, 5]) nativeError('EINVAL', /not a network namespace/)(results[index])
    nativeError('ENOENT', /none/)(results[3])
    assert.deepEqual(
      state(results[6]).addresses.map(({ address }) => address),
      ['127.0.0.1', '::1'],
    )
    assert.deepEqual(await inspect([]), [])
  })

  it('leaves the process in its own namespace', async () => {
    const home = readlinkSync('/proc/self/ns/net')
    await Promise.all(Array.from({ length: 20 }, () => inspect([pod.path, empty.path])))
    assert.equal(readlinkSync('/proc/self/ns/net'), home)
    const tasks = execFileSync('sh', ['-c', `readlink /proc/${process.pid}/task/*/ns/net | sort -u`], { encoding: 'utf8' })
    assert.equal(tasks.trim(), home)
  })

  it('does not block the event loop while it reads', async () => {
    const paths = Array.from({ length: 500 }, (_, index) => (index % 2 ? pod.path : empty.path))
    const turns = await turnsDuring(() => inspect(paths))
    assert(turns > 20, `${turns} turns`)
  })
})

describe('who listens in a namespace', () => {
  leavesNoDescriptors()

  it('lists listeners with address, port, owner, inode and cookies', async () => {
    const script = `
import os, socket, sys, time
v4 = socket.create_server(('127.0.0.1', 15001))
v6 = socket.create_server(('::', 15006), family=socket.AF_INET6)
connected = socket.create_connection(('127.0.0.1', 15001))
os.setuid(1337)
late = socket.create_server(('10.9.0.2', 15090))
cookie = int.from_bytes(late.getsockopt(socket.SOL_SOCKET, 57, 8), 'little') # SO_COOKIE
print(f'{os.fstat(late.fileno()).st_ino} {cookie}', flush=True) # one write, however Python buffers
sys.stdin.read()`
    const { spawn } = await import('node:child_process')
    const child = spawn('nsenter', [`--net=${pod.path}`, '/usr/bin/python3', '-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
    const [inode, cookie] = String(await new Promise<Buffer>((resolve) => child.stdout.once('data', resolve))).split(' ')
    const found = (await listeners(pod.path)).sort((a, b) => a.port - b.port)
    assert.deepEqual(
      found.map(({ family, address, port, uid, ipv6Only }) => ({ family, address, port, uid, ipv6Only })),
      [
        { family: 4, address: '127.0.0.1', port: 15001, uid: 0, ipv6Only: false },
        { family: 6, address: '::', port: 15006, uid: 0, ipv6Only: true },
        { family: 4, address: '10.9.0.2', port: 15090, uid: 1337, ipv6Only: false },
      ],
    )
    assert.deepEqual([found[2]?.inode, found[2]?.cookie], [Number(inode), BigInt(cookie ?? '')])
    const [state] = await inspect([pod.path])
    assert(state && 'cookie' in state)
    for (const { namespace } of found) assert.equal(namespace, state.inode)
    assert.deepEqual(await listeners(empty.path), [])

    using object = await native.load(sockets)
    using program = object.program('listening')
    using iterator = native.attachIterator(program)
    assert.equal(iterator.info.programId, program.info.id)
    assert.deepEqual((await iterate(pod.path, iterator)).trim().split('\n').sort(), ['15001', '15006', '15090'])
    assert.equal(await iterate(empty.path, iterator), '')
    using other = await native.load(sockets)
    using replacement = other.program(program.info.name)
    iterator.update(replacement)
    assert.equal(iterator.info.programId, replacement.info.id)
    assert.equal((await iterate(pod.path, iterator)).trim().split('\n').length, 3)

    const ended = new Promise((resolve) => child.on('close', resolve))
    child.stdin.end()
    await ended
    assert.deepEqual(await listeners(pod.path), [])
  })

  it('names the path that cannot be read', async () => {
    using object = await native.load(sockets)
    using program = object.program('listening')
    using iterator = native.attachIterator(program)
    const missing = nativeError('ENOENT', /nowhere/)
    await assert.rejects(listeners('/run/netns/nowhere'), missing)
    await assert.rejects(hasNatRules('/run/netns/nowhere'), missing)
    await assert.rejects(iterate('/run/netns/nowhere', iterator), missing)
    iterator.close()
    await assert.rejects(iterate(pod.path, iterator), nativeError('EBADF'))
  })
})

describe('nat rules of a namespace', () => {
  leavesNoDescriptors()

  const REDIRECT = ['-t', 'nat', '-A', 'MESH', '-p', 'tcp', '-j', 'REDIRECT', '--to-ports', '15001']

  it('are none in a fresh namespace, and asking does not make any', async () => {
    assert.equal(await hasNatRules(empty.path), false)
    assert.equal(empty.run('cat', '/proc/thread-self/net/ip_tables_names'), '')
    assert.equal(empty.run('iptables-nft-save'), '')
  })

  it('are found in iptables-nft', async () => {
    for (const tool of ['iptables-nft', 'ip6tables-nft']) {
      natNft.run(tool, '-t', 'filter', '-A', 'OUTPUT', '-j', 'ACCEPT')
      natNft.run(tool, '-t', 'nat', '-A', 'POSTROUTING', '-j', 'MASQUERADE')
      assert.equal(await hasNatRules(natNft.path), false, `${tool}, nothing is redirected`)
      natNft.run(tool, '-t', 'nat', '-A', 'OUTPUT', '-p', 'tcp', '-j', 'REDIRECT', '--to-ports', '15001')
      assert.equal(await hasNatRules(natNft.path), true, tool)
      assert.deepEqual(await natPorts(natNft.path), [15001], tool)
      natNft.run(tool, '-t', 'nat', '-F')
      assert.equal(await hasNatRules(natNft.path), false, `${tool}, flushed`)
    }
    natNft.run('iptables-nft', '-t', 'nat', '-N', 'MESH')
    natNft.run('iptables-nft', ...REDIRECT)
    assert.equal(await hasNatRules(natNft.path), false, 'a chain that nothing jumps to')
    natNft.run('iptables-nft', '-t', 'nat', '-A', 'PREROUTING', '-j', 'MESH')
    assert.deepEqual(await natPorts(natNft.path), [15001])
    natNft.run('iptables-nft', '-t', 'nat', '-F', 'MESH')
    assert.equal(await hasNatRules(natNft.path), false, 'a chain with the name of a target is no rule')
    natNft.run('iptables-nft', '-t', 'nat', '-N', 'A_REDIRECT')
    natNft.run('iptables-nft', '-t', 'nat', '-A', 'MESH', '-j', 'A_REDIRECT')
    assert.equal(await natPorts(natNft.path), undefined)
  })

  it('are found in legacy iptables', async () => {
    for (const tool of ['iptables-legacy', 'ip6tables-legacy']) {
      natLegacy.run(tool, '-t', 'filter', '-A', 'OUTPUT', '-j', 'ACCEPT')
      assert.equal(await hasNatRules(natLegacy.path), false)
      natLegacy.run(tool, '-t', 'nat', '-L', '-n')
      assert.equal(await hasNatRules(natLegacy.path), false, `${tool}, an empty table`)
      natLegacy.run(tool, '-t', 'nat', '-A', 'POSTROUTING', '-j', 'MASQUERADE')
      assert.equal(await hasNatRules(natLegacy.path), false, `${tool}, nothing is redirected`)
      natLegacy.run(tool, '-t', 'nat', '-A', 'OUTPUT', '-p', 'tcp', '-j', 'REDIRECT', '--to-ports', '15001')
      assert.equal(await hasNatRules(natLegacy.path), true, tool)
      assert.deepEqual(await natPorts(natLegacy.path), [15001], tool)
      natLegacy.run(tool, '-t', 'nat', '-F')
      assert.equal(await hasNatRules(natLegacy.path), false, `${tool}, flushed`)
      natLegacy.run(tool, '-t', 'nat', '-N', 'A_REDIRECT')
      natLegacy.run(tool, '-t', 'nat', '-A', 'OUTPUT', '-j', 'A_REDIRECT')
      assert.equal(await hasNatRules(natLegacy.path), false, `${tool}: a chain with the name of a target is no rule`)
    }
  })
})
