/** What a viewer sees of the kernel's records, and which of them: both families, both protocols. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseAddress } from '../../core/address.ts'
import { textPrinter } from '../../core/cli/monitor.ts'
import { type EventRecord, eventCodec, Fact, Limit, Reason, Stage, Verdict } from '../../core/contract.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { eventView } from '../../core/observe/events.ts'
import { filterOf, wants } from '../../core/observe/filter.ts'
import type { EventView } from '../../core/views.ts'

const words = (text: string) => parseAddress(text)?.words ?? assert.fail(text)
const facts = (...bits: number[]) => bits.reduce((word, bit) => word | (1n << BigInt(bit)), 0n)

const record = (more: Partial<EventRecord>): EventRecord => ({
  ...eventCodec.decode(Buffer.alloc(eventCodec.size)),
  policy: 7n,
  stage: Stage.OUTBOUND,
  family: 4,
  rule: 2,
  verdict: Verdict.PASS,
  facts: facts(Fact.TCP),
  ...more,
})

const view = (more: Partial<EventRecord>): EventView => eventView(record(more), 0, { title: 'default/web' })

const query6 = view({
  family: 6,
  facts: facts(Fact.UDP, Fact.IPV6),
  source: words('fd00::2'),
  sport: 4000,
  dest: words('fd00::53'),
  dport: 53,
  verdict: Verdict.TARGET,
  target: words('::1'),
  tport: 15053,
})
const web4 = view({ source: words('10.0.0.2'), dest: words('10.96.0.10'), dport: 80 })
const inbound6 = view({
  family: 6,
  stage: Stage.INBOUND,
  facts: 0n,
  source: words('2001:db8::1'),
  sport: 1,
  dest: words('fd00::2'),
  dport: 80,
  rule: Limit.RULES + 1,
  reason: Reason.POD_CHANGED,
})

const matches = (text: string) => [query6, web4, inbound6].filter((event) => wants(filterOf(new URLSearchParams(text)), event))

describe('monitor', () => {
  it('tells protocol and family, and IPv6 addresses', () => {
    assert.deepEqual([query6.protocol, query6.family], ['udp', 'ipv6'])
    assert.deepEqual(query6.destination, { address: 'fd00::53', port: 53 })
    assert.deepEqual(query6.target, { address: '::1', port: 15053 })
    assert.deepEqual([web4.protocol, web4.family], ['tcp', 'ipv4'])
    assert.deepEqual([inbound6.protocol, inbound6.family], ['tcp', 'ipv6'])
    assert.equal(view({ facts: 0n, rule: Limit.RULES + 1, reason: Reason.NO_POLICY }).protocol, undefined)
  })

  it('writes IPv6 in brackets where a port follows', () => {
    const line = textPrinter().line(query6)
    assert.match(line, /default\/web +out +udp +\[fd00::2\]:4000 +\[fd00::53\]:53 +redirect to \[::1\]:15053 +#2/)
    assert.match(textPrinter().line({ ...query6, source: { address: 'fd00::2' } }), / udp +fd00::2 +\[fd00::53\]:53 /)
  })

  it('filters by protocol, family, address and network', () => {
    assert.deepEqual(matches('proto=udp'), [query6])
    assert.deepEqual(matches('family=ipv6'), [query6, inbound6])
    assert.deepEqual(matches('to=fd00::/8'), [query6, inbound6])
    assert.deepEqual(matches('to=fd00::53&proto=udp&port=53'), [query6])
    assert.deepEqual(matches('to=[fd00::53]'), [query6])
    assert.deepEqual(matches('from=2001:db8::/32'), [inbound6])
    assert.deepEqual(matches('to=10.0.0.0/8'), [web4])
    assert.deepEqual(matches('family=ipv4&from=10.0.0.2&to=::ffff:10.0.0.0/104'), [web4])
    assert.deepEqual(matches('to=::ffff:10.96.0.10'), [web4])
    assert.deepEqual(matches('to=::/0'), [query6, inbound6], 'IPv4 is not a part of IPv6')
  })

  it('says what is wrong with a filter', () => {
    for (const [text, message] of [
      ['proto=sctp', /"sctp" is not a protocol/],
      ['family=4', /"4" is not a family/],
      ['to=web', /expected an IP address or a network.*got 'web'/],
      ['to=fd00::1/8', /the network is fd00::\/8/],
      ['from=fe80::1%25eth0', /has a zone.*\| Leave "%eth0" out/],
      ['to=10.0.0.0/33', /at most 32/],
      ['family=ipv6&to=10.0.0.0/8', /family ipv6 and to 10\.0\.0\.0\/8 never match together: one is ipv6, the other ipv4 \| Give both/],
      ['family=ipv4&from=fd00::/8', /family ipv4 and from fd00::\/8 never match/],
      ['family=ipv6&to=::ffff:10.0.0.1', /to 10\.0\.0\.1\/32 never match.*an IPv4 address on an IPv6 socket counts as IPv4/],
      ['from=10.0.0.2&to=fd00::1', /from 10\.0\.0\.2\/32 and to fd00::1\/128 never match/],
    ] as const) {
      const check = (error: unknown) => error instanceof MerbridgeError && error.code === 'USAGE' && message.test(`${error.message} | ${error.hint}`)
      assert.throws(() => filterOf(new URLSearchParams(text)), check, text)
    }
  })
})
