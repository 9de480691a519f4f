// The rules that the differential tests compare with, for IPv6 and DNS: the texts are written from Istio's tables, rule by rule.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { istioTables } from '../lab/istio-iptables.ts'
import { type MeshOptions, readPod, type SidecarPod } from '../lab/istio-options.ts'

const lines = (text: string | undefined) =>
  (text ?? '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')

/** The rules of the table, without its chains. */
function rulesOf(text: string | undefined, table: string): string[] {
  const all = lines(text)
  const start = all.indexOf(`*${table}`)
  return start < 0 ? [] : all.slice(start + 1, all.indexOf('COMMIT', start)).filter((line) => !line.startsWith('-N'))
}

describe("Istio's rules for IPv6", () => {
  it('are there where they are wanted, with ::6 on lo', () => {
    assert.deepEqual(Object.keys(istioTables()), ['v4', 'loopbackAddresses'])
    assert.deepEqual(istioTables().loopbackAddresses, [])
    const { v4, v6, loopbackAddresses } = istioTables({ ipv6: true })
    assert.equal(v4, istioTables().v4)
    assert.deepEqual(loopbackAddresses, ['::6'])
    assert.deepEqual(lines(v6), lines(v4.replaceAll('127.0.0.1/32', '::1/128').replaceAll('127.0.0.6/32', '::6/128')))
  })

  it('have the networks of their family, and ::1 for localhost whatever IPv4 has', () => {
    const both = {
      outboundRangesInclude: ['10.0.0.0/8', 'fd00::/8'],
      outboundRangesExclude: ['fd00:1::/32', '10.1.0.0/16'],
      loopbackCidr: '127.0.0.1/8',
      ipv6: true,
    }
    const { v4, v6 } = istioTables(both)
    const destinations = (text: string | undefined) => rulesOf(text, 'nat').filter((line) => line.startsWith('-A ISTIO_OUTPUT -d'))
    assert.deepEqual(destinations(v4), [
      '-A ISTIO_OUTPUT -d 127.0.0.1/8 -j RETURN',
      '-A ISTIO_OUTPUT -d 10.1.0.0/16 -j RETURN',
      '-A ISTIO_OUTPUT -d 10.0.0.0/8 -j ISTIO_REDIRECT',
    ])
    assert.deepEqual(destinations(v6), [
      '-A ISTIO_OUTPUT -d ::1/128 -j RETURN',
      '-A ISTIO_OUTPUT -d fd00:1::/32 -j RETURN',
      '-A ISTIO_OUTPUT -d fd00::/8 -j ISTIO_REDIRECT',
    ])
  })
})

describe("Istio's rules for DNS", () => {
  const outbound = (text: string | undefined) => rulesOf(text, 'nat').filter((line) => /^-A ISTIO_OUTPUT/.test(line))

  it('of all servers', () => {
    const { v4, v6 } = istioTables({ ipv6: true, dns: 'all', outboundPortsExclude: [] })
    assert.deepEqual(outbound(v4), [
      '-A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN',
      '-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp -m multiport ! --dports 53,15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT',
      '-A ISTIO_OUTPUT -o lo -p tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN',
      '-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN',
      '-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT',
      '-A ISTIO_OUTPUT -o lo -p tcp ! --dport 53 -m owner ! --gid-owner 1337 -j RETURN',
      '-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN',
      '-A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS',
      '-A ISTIO_OUTPUT_DNS -p tcp --dport 53 -j REDIRECT --to-ports 15053',
      '-A ISTIO_OUTPUT_DNS -p udp --dport 53 -j REDIRECT --to-ports 15053',
      '-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN',
      '-A ISTIO_OUTPUT -j ISTIO_REDIRECT',
    ])
    assert.deepEqual(
      outbound(v6),
      outbound(v4).map((line) => line.replace('127.0.0.1/32', '::1/128').replace('127.0.0.6/32', '::6/128')),
    )
    assert.deepEqual(rulesOf(v4, 'raw'), [
      '-A OUTPUT -j ISTIO_OUTPUT_DNS',
      '-A ISTIO_OUTPUT_DNS -p udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1',
      '-A ISTIO_OUTPUT_DNS -p udp --sport 15053 -m owner --uid-owner 1337 -j CT --zone 2',
      '-A ISTIO_OUTPUT_DNS -p udp --dport 53 -m owner --gid-owner 1337 -j CT --zone 1',
      '-A ISTIO_OUTPUT_DNS -p udp --sport 15053 -m owner --gid-owner 1337 -j CT --zone 2',
      '-A PREROUTING -j ISTIO_INBOUND',
      '-A ISTIO_OUTPUT_DNS -p udp --dport 53 -j CT --zone 2',
      '-A ISTIO_INBOUND -p udp --sport 53 -j CT --zone 1',
    ])
    assert.deepEqual(rulesOf(v6, 'raw'), rulesOf(v4, 'raw'))
  })

  it('of the pod, by family: where a family has none, the rules of the owners differ all the same', () => {
    const { v4, v6 } = istioTables({ ipv6: true, dns: 'servers', nameservers: ['10.96.0.10', '192.0.2.53'] })
    const jump = '-A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS'
    assert.deepEqual(
      outbound(v4).filter((line) => line.includes('OUTPUT_DNS')),
      [
        jump,
        '-A ISTIO_OUTPUT_DNS -p tcp --dport 53 -d 10.96.0.10/32 -j REDIRECT --to-ports 15053',
        '-A ISTIO_OUTPUT_DNS -p tcp --dport 53 -d 192.0.2.53/32 -j REDIRECT --to-ports 15053',
        '-A ISTIO_OUTPUT_DNS -p udp --dport 53 -d 10.96.0.10/32 -j REDIRECT --to-ports 15053',
        '-A ISTIO_OUTPUT_DNS -p udp --dport 53 -d 192.0.2.53/32 -j REDIRECT --to-ports 15053',
      ],
    )
    assert(rulesOf(v4, 'raw').includes('-A ISTIO_INBOUND -p udp --sport 53 -s 192.0.2.53/32 -j CT --zone 1'))
    assert(!outbound(v6).some((line) => line.includes('OUTPUT_DNS')))
    assert(outbound(v6).includes('-A ISTIO_OUTPUT -o lo -p tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN'))
  })

  it('without a server there are none', () => {
    assert.deepEqual(istioTables({ ipv6: true, dns: 'servers' }), istioTables({ ipv6: true }))
  })
})

describe('what a pod tells Istio of families and DNS', () => {
  const both = ['10.9.0.2', 'fd09::2']

  function read(env: Readonly<Record<string, string>>, options: MeshOptions = {}, more: Partial<SidecarPod> = {}) {
    const reading = readPod({ annotations: {}, containers: [{ name: 'istio-proxy', env }], addresses: both, ...more }, options)
    assert('rules' in reading)
    return reading.rules
  }

  it('IPv6 by the first address, or by any with dual stack', () => {
    const ipv6 = (env: Readonly<Record<string, string>>, options: MeshOptions = {}, addresses = both) => read(env, options, { addresses }).ipv6
    assert.equal(ipv6({}), false)
    assert.equal(ipv6({}, {}, ['fd09::2', '10.9.0.2']), true)
    assert.equal(ipv6({ ISTIO_DUAL_STACK: 'true' }), true)
    assert.equal(ipv6({ ISTIO_DUAL_STACK: 'true' }, {}, ['10.9.0.2']), false)
    assert.equal(ipv6({}, { dualStack: true }), true)
    assert.equal(ipv6({ ISTIO_DUAL_STACK: 'no' }, { dualStack: true }), false)
    assert.deepEqual([ipv6({ DUAL_STACK: 't' }), ipv6({ DUAL_STACK: 't' }, { setup: 'init' })], [false, true])
  })

  it('DNS by the environment: all with cni, with init only the servers unless it says so', () => {
    const dns = (env: Readonly<Record<string, string>>, options: MeshOptions = {}) => [
      read(env, options).dns,
      read(env, { ...options, setup: 'init' }).dns,
    ]
    assert.deepEqual(dns({}), [false, false])
    assert.deepEqual(dns({ ISTIO_META_DNS_CAPTURE: 'true' }), ['all', 'servers'])
    assert.deepEqual(dns({ ISTIO_META_DNS_CAPTURE: 'true', CAPTURE_ALL_DNS: 'true' }), ['all', 'all'])
    assert.deepEqual(dns({ REDIRECT_DNS: 'true' }), [false, 'servers'])
    assert.deepEqual(dns({}, { captureDns: 'servers' }), ['servers', 'servers'])
    assert.deepEqual(dns({}, { captureDns: 'all' }), ['all', 'all'])
    assert.deepEqual(dns({ ISTIO_META_DNS_CAPTURE: 'false' }, { captureDns: 'all' }), [false, false])
    assert.deepEqual(read({}, { nameservers: ['192.0.2.53'] }, { nameservers: ['::ffff:10.96.0.10'] }).nameservers, ['10.96.0.10'])
    assert.deepEqual(read({}, { nameservers: ['192.0.2.53'] }).nameservers, ['192.0.2.53'])
  })
})
