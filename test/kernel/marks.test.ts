/** The mark of a socket, as rules of ambient see it: when it is set, on which kind of socket, and that ztunnel's own is never redirected. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { mapped } from './ends.ts'
import { DatapathUnderTest } from './fixture.ts'
import { ambientRules, type MarkedPods, marked, markedPods, type Step } from './marks.ts'
import { configOf } from './rules.ts'

const ztunnel = 0x539
const mptcpSetting = '/proc/sys/net/mptcp/enabled'
const mptcp = existsSync(mptcpSetting) && readFileSync(mptcpSetting, 'utf8').trim() === '1'

describe('marks of sockets', { timeout: 120_000 }, () => {
  let pods: MarkedPods
  let datapath: DatapathUnderTest
  before(async () => {
    pods = await markedPods('marks')
    datapath = new DatapathUnderTest('marks')
    await datapath.start(configOf(datapath, [pods.client], ambientRules()))
  })
  after(async () => {
    await datapath?.[Symbol.asyncDispose]()
    await pods?.[Symbol.asyncDispose]()
  })

  /** The peer by each family: of the socket, and the address. */
  const peers = () =>
    [
      ['IPv4', 4, pods.peer.address],
      ['IPv6', 6, pods.peer.ipv6],
      ['mapped', 6, mapped(pods.peer.address)],
    ] as const
  const ask = (...cases: (readonly Step[])[]) => marked(pods.client, cases)

  /** The same steps for each family. */
  async function each(wanted: readonly string[], steps: (family: number, host: string) => readonly Step[]): Promise<void> {
    const all = peers()
    const told = await ask(...all.map(([, family, host]) => steps(family, host)))
    for (const [index, [name]] of all.entries()) assert.deepEqual(told[index], wanted, name)
  }

  test('of a TCP client: the low twelve bits decide', async () => {
    for (const [mark, wanted] of [
      [0, 'ztunnel'],
      [ztunnel, 'peer'],
      [0x1539, 'peer'],
      [0xfffff539, 'peer'],
      [0x538, 'ztunnel'],
      [0x53a, 'ztunnel'],
      [0x111, 'peer'],
      [0x112, 'ztunnel'],
      [0xffffffff, 'ztunnel'],
    ] as const)
      await each([wanted], (family, host) => [
        ['tcp', family],
        ['mark', mark],
        ['connect', host, 80],
      ])
  })

  test('of a TCP client: what the socket has at connect() counts, whatever it had before or has later', async () => {
    await each(['ztunnel'], (family, host) => [
      ['tcp', family],
      ['mark', ztunnel],
      ['mark', 0],
      ['connect', host, 80],
    ])
    await each(['peer'], (family, host) => [
      ['tcp', family],
      ['mark', 1],
      ['bind', family === 4 ? '0.0.0.0' : '::'],
      ['mark', ztunnel],
      ['connect', host, 80],
    ])
    await each(['ztunnel', 'peer', 'ztunnel'], (family, host) => [
      ['tcp', family],
      ['connect', host, 80],
      ['mark', ztunnel],
      ['disconnect'],
      ['connect', host, 80],
      ['mark', 0],
      ['disconnect'],
      ['connect', host, 80],
    ])
  })

  test('of a UDP client that is connected', async () => {
    const query = (mark: number) => (family: number, host: string) =>
      [['udp', family], ['mark', mark], ['connect', host, 53], ['send'], ['send']] as const
    await each(['dns', 'dns'], query(0))
    await each(['peer', 'peer'], query(ztunnel))
    await each(['dns', 'dns'], query(0x53a))
    // A connected socket was decided at connect().
    await each(['dns'], (family, host) => [['udp', family], ['connect', host, 53], ['mark', ztunnel], ['send']])
    await each(['peer'], (family, host) => [['udp', family], ['mark', ztunnel], ['connect', host, 53], ['mark', 0], ['send']])
    // UDP of the way back is captured, as Istio's rules have it.
    await each(['dns', 'dns'], query(0x111))
  })

  test('of a UDP client that sends to addresses: each datagram by the mark that the socket has then', async () => {
    await each(['dns', 'peer', 'dns', 'peer'], (family, host) => [
      ['udp', family],
      ['sendto', host, 53],
      ['mark', ztunnel],
      ['sendto', host, 53],
      ['mark', 0],
      ['sendto', host, 53],
      ['mark', 0x1539],
      ['sendto', host, 53],
    ])
  })

  test('of an MPTCP client', { skip: !mptcp && 'this kernel has no MPTCP' }, async () => {
    const connect = (mark: number) => (family: number, host: string) =>
      [
        ['mptcp', family],
        ['mark', mark],
        ['connect', host, 80],
      ] as const
    await each(['peer'], connect(ztunnel))
    await each(['ztunnel'], connect(0x53a))
  })

  test('that a datagram brings along is not seen: the mark of the socket decides', async () => {
    await each(['dns'], (family, host) => [
      ['udp', family],
      ['message', ztunnel, host, 53],
    ])
    await each(['peer'], (family, host) => [
      ['udp', family],
      ['mark', ztunnel],
      ['message', 1, host, 53],
    ])
  })

  test('of ztunnel: nothing is redirected, neither in the pod nor from an address of somebody else', async () => {
    const { client } = pods
    const marking = [['mark', ztunnel]] as const
    const told = await ask(
      [['tcp', 4], ...marking, ['connect', client.address, 80]],
      [['tcp', 6], ...marking, ['connect', client.ipv6, 80]],
      [['tcp', 4], ...marking, ['connect', client.address, 15006]],
      [['tcp', 4], ...marking, ['connect', '127.0.0.53', 53]],
      [['tcp', 4], ...marking, ['transparent', '192.0.2.7'], ['connect', client.address, 80]],
      [['tcp', 6], ...marking, ['transparent', '2001:db8::7'], ['connect', client.ipv6, 80]],
    )
    // The last two: answers leave the pod, because the way back is not there.
    assert.deepEqual(told, [['own'], ['own'], ['inbound'], ['ECONNREFUSED'], ['TIMEOUT'], ['TIMEOUT']])
  })
})
