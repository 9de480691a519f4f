// Which pods have rules for IPv6 and for DNS, by the addresses, the environment, the options and the name servers that are known.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import type { PodFacts } from '../../core/describe.ts'
import type { Interception } from '../../core/plugin.ts'
import { ask, interceptionFor, withSidecar } from './istio-pods.ts'
import { compileOne, container } from './pods.ts'
import { type Connection, Reference } from './reference.ts'

const four = '10.9.0.2'
const six = 'fd09::2'
const withEnv = (env: Readonly<Record<string, string>>, more: Partial<PodFacts> = {}) => ({ ...withSidecar({ env }), ...more })

group('IPv6', () => {
  const captured = (facts: Partial<PodFacts>, options: object = {}) => {
    const { outbound, inbound, loopbackAddresses } = interceptionFor(facts, options)
    const alone = [outbound, inbound].map((rules) => rules[0]?.name === 'IPv6 is not captured')
    assert.deepEqual(loopbackAddresses, alone[0] ? undefined : ['::6'])
    assert.equal(alone[0], alone[1])
    return !alone[0]
  }

  it('is captured where the first address is one, or with dual stack any address', () => {
    assert.equal(captured({ addresses: [four] }), false)
    assert.equal(captured({ addresses: [four, six] }), false)
    assert.equal(captured({ addresses: [six, four] }), true)
    assert.equal(captured({ addresses: [six] }), true)
    assert.equal(captured({ addresses: [] }), false)
    assert.equal(captured({ addresses: [four, six] }, { dualStack: true }), true)
    assert.equal(captured({ addresses: [four] }, { dualStack: true }), false)
    assert.equal(captured(withEnv({ ISTIO_DUAL_STACK: 'true' }, { addresses: [four, six] })), true)
    assert.equal(captured(withEnv({ ISTIO_DUAL_STACK: 'true' }, { addresses: [four] })), false)
  })

  it('follows the environment before the options, with init the second name too', () => {
    const addresses = [four, six]
    assert.equal(captured(withEnv({ ISTIO_DUAL_STACK: 'false' }, { addresses }), { dualStack: true }), false)
    assert.equal(captured(withEnv({ DUAL_STACK: 'true' }, { addresses })), false)
    assert.equal(captured(withEnv({ DUAL_STACK: 'true' }, { addresses }), { setup: 'init' }), true)
    const fromInit = { containers: [container('istio-init', { env: { DUAL_STACK: '1' } }), container('istio-proxy')], addresses }
    assert.equal(captured(fromInit, { setup: 'init' }), true)
    const unread = ask(withEnv({ ISTIO_DUAL_STACK: 'on' }, { addresses }), { dualStack: true })
    assert.deepEqual(unread.warnings, ["environment variable ISTIO_DUAL_STACK: expected true or false, got 'on'; Istio takes it for false"])
    assert.ok('outbound' in unread.answer && unread.answer.loopbackAddresses === undefined)
  })

  it('has ::1 for localhost, whatever IPv4 has', () => {
    const sets = (options: object) => interceptionFor({ addresses: [six] }, options).sets?.localhost
    assert.equal(sets({}), undefined)
    assert.deepEqual(sets({ loopbackCidr: '127.0.0.0/8' }), { cidrs: ['127.0.0.0/8', '::1/128'] })
  })

  it('is decided like IPv4', () => {
    const reference = new Reference(compileOne(interceptionFor({ addresses: [six, four] })))
    const decide = (more: Partial<Connection>) =>
      reference.decide({ netns: 1n, direction: 'outbound', proto: 'tcp', to: six, port: 80, uid: 1000, gid: 1000, ...more }).verdict
    const proxy = { uid: 1337, gid: 1337 }
    assert.equal(decide({ to: '2001:db8::9' }), '[::1]:15001')
    assert.equal(decide({ to: '2001:db8::9', ...proxy }), 'pass')
    assert.equal(decide({ to: '2001:db8::9', port: 15020 }), 'pass')
    assert.equal(decide({ to: '2001:db8::9', proto: 'udp' }), 'pass')
    assert.equal(decide({ to: '::ffff:10.96.0.10' }), '127.0.0.1:15001')
    assert.equal(decide({ to: '::1' }), 'pass')
    assert.equal(decide({ to: '::1', ...proxy }), 'pass')
    assert.equal(decide({}), 'pass')
    assert.equal(decide(proxy), '[::1]:15006')
    assert.equal(decide({ ...proxy, port: 15008 }), 'pass')
    assert.equal(decide({ ...proxy, from: '::6' }), 'pass')
    assert.equal(decide({ direction: 'inbound', from: 'fd09::9' }), '[::1]:15006')
    assert.equal(decide({ direction: 'inbound', from: 'fd09::9', port: 15021 }), 'pass')
  })
})

group('DNS', () => {
  const servers = ['10.96.0.10', 'fd00::53']
  /** 'all', the servers, or false. */
  function captured({ outbound, sets, targets }: Interception): false | 'all' | readonly string[] {
    const rule = outbound.find(({ name }) => name === 'DNS')
    if (rule === undefined) return false
    assert.deepEqual([rule.when?.port, rule.then, rule.when?.proto, sets?.DNS], ['DNS', 'dns', undefined, { ports: [53] }])
    assert.ok(targets?.dns?.port !== undefined)
    return rule.when?.to === undefined ? 'all' : (sets?.['name servers']?.cidrs ?? [])
  }
  const both = (facts: Partial<PodFacts>, options: object = {}) =>
    (['cni', 'init'] as const).map((setup) => captured(interceptionFor({ nameservers: servers, ...facts }, { setup, ...options })))
  const variable = (env: Readonly<Record<string, string>>, options: object = {}) => both(withEnv(env), options)

  it('is captured as the environment says: all with cni, the servers of the pod with init', () => {
    assert.deepEqual(both({}), [false, false])
    assert.deepEqual(variable({ ISTIO_META_DNS_CAPTURE: 'true' }), ['all', ['10.96.0.10']])
    assert.deepEqual(variable({ ISTIO_META_DNS_CAPTURE: 'false' }, { captureDns: 'all' }), [false, false])
    assert.deepEqual(variable({ REDIRECT_DNS: 'true' }), [false, ['10.96.0.10']])
    assert.deepEqual(variable({ ISTIO_META_DNS_CAPTURE: '1', CAPTURE_ALL_DNS: 't' }), ['all', 'all'])
    assert.deepEqual(variable({ CAPTURE_ALL_DNS: 'true' }), [false, false])
    assert.deepEqual(variable({ ISTIO_META_DNS_CAPTURE: 'true' }, { captureDns: 'servers' }), ['all', ['10.96.0.10']])
    assert.deepEqual(variable({ ISTIO_META_DNS_CAPTURE: 'true', CAPTURE_ALL_DNS: 'false' }, { captureDns: 'all' }), ['all', ['10.96.0.10']])
  })

  it('is captured as the options say', () => {
    assert.deepEqual(both({}, { captureDns: 'all' }), ['all', 'all'])
    assert.deepEqual(both({}, { captureDns: 'servers' }), [['10.96.0.10'], ['10.96.0.10']])
    assert.deepEqual(both({ addresses: [six] }, { captureDns: 'servers' }), [servers, servers])
    assert.deepEqual(interceptionFor({}, { captureDns: 'all', dnsPort: 5300 }).targets?.dns, { port: 5300 })
  })

  it('knows the servers of the pod before those of the options, as Istio reads them', () => {
    const of = (facts: Partial<PodFacts>, nameservers: readonly string[]) => captured(interceptionFor(facts, { captureDns: 'servers', nameservers }))
    assert.deepEqual(of({}, ['192.0.2.53']), ['192.0.2.53'])
    assert.deepEqual(of({ nameservers: ['127.0.0.53', '::ffff:10.96.0.10', '127.0.0.53'] }, ['192.0.2.53']), ['127.0.0.53', '10.96.0.10'])
    assert.deepEqual(of({ addresses: [six], nameservers: ['FD00:0::53', 'fe80::1%eth0'] }, []), ['fd00::53'])
  })

  it('says what to do where no server is known or captured, and captures none', () => {
    const env = { ISTIO_META_DNS_CAPTURE: 'true' }
    const unknown = ask(withEnv(env), { setup: 'init' })
    assert.deepEqual(unknown.warnings, [
      'ISTIO_META_DNS_CAPTURE: DNS is not captured: only queries to the name servers of the pod are captured, and none is known; list them under nameservers, of the pod or among the options of the mesh, or capture all queries with captureDns: all',
    ])
    assert.deepEqual(unknown.answer, interceptionFor({}, { setup: 'init' }))
    assert.match(
      ask({ nameservers: [] }, { captureDns: 'servers', nameservers: servers }).warnings.join(),
      /^captureDns: servers: DNS is not captured: only/,
    )
    const other = ask({ nameservers: ['fd00::53'] }, { captureDns: 'servers' })
    assert.match(other.warnings.join(), /its name servers have IPv6 addresses, and IPv6 is not captured/)
    assert.ok('outbound' in other.answer && captured(other.answer) === false)
    assert.deepEqual(ask({ nameservers: ['fd00::53'], addresses: [] }, { captureDns: 'servers' }).warnings, [])
  })

  it('decides as measured under the rules that istio-cni writes with DNS capture', () => {
    const reference = new Reference(compileOne(interceptionFor(withEnv({ ISTIO_META_DNS_CAPTURE: 'true' }, { addresses: [six, four] }))))
    const callers = { app: { uid: 1000, gid: 1000 }, proxy: { uid: 1337, gid: 1337 }, group: { uid: 0, gid: 1337 } }
    const table: readonly (readonly ['tcp' | 'udp', string, number, string, string, string])[] = [
      ['tcp', '10.96.0.10', 53, '127.0.0.1:15053', 'pass', 'pass'],
      ['tcp', '127.0.0.53', 53, '127.0.0.1:15053', 'pass', '127.0.0.1:15006'],
      ['udp', '10.96.0.10', 53, '127.0.0.1:15053', 'pass', 'pass'],
      ['udp', '127.0.0.53', 53, '127.0.0.1:15053', 'pass', 'pass'],
      ['udp', '127.0.0.1', 53, '127.0.0.1:15053', 'pass', 'pass'],
      ['udp', '10.96.0.10', 5353, 'pass', 'pass', 'pass'],
      ['tcp', '10.96.0.10', 80, '127.0.0.1:15001', 'pass', 'pass'],
      ['tcp', '127.0.0.9', 8080, 'pass', '127.0.0.1:15006', 'pass'],
      ['udp', four, 8080, 'pass', 'pass', 'pass'],
      ['udp', '2001:db8::53', 53, '[::1]:15053', 'pass', 'pass'],
      ['tcp', '2001:db8::53', 53, '[::1]:15053', 'pass', 'pass'],
      ['tcp', six, 53, '[::1]:15053', 'pass', '[::1]:15006'],
      ['udp', '::1', 53, '[::1]:15053', 'pass', 'pass'],
      ['udp', '::ffff:10.96.0.10', 53, '127.0.0.1:15053', 'pass', 'pass'],
    ]
    for (const [proto, to, port, ...expected] of table) {
      const verdicts = Object.values(callers).map((who) => reference.decide({ netns: 1n, direction: 'outbound', proto, to, port, ...who }).verdict)
      assert.deepEqual(verdicts, expected, `${proto} ${to}:${port}`)
    }
  })

  it('lets excluded ports and groups go first, and excluded destinations not', () => {
    const decide = (options: object) => {
      const reference = new Reference(compileOne(interceptionFor({}, { captureDns: 'all', ...options })))
      const query: Connection = { netns: 1n, direction: 'outbound', proto: 'udp', to: '10.96.0.10', port: 53, uid: 1000, gid: 1000 }
      return reference.decide(query).verdict
    }
    assert.equal(decide({}), '127.0.0.1:15053')
    assert.equal(decide({ excludeOutboundPorts: [53] }), 'pass')
    assert.equal(decide({ ownerGroupsExclude: [1000] }), 'pass')
    assert.equal(decide({ ownerGroupsInclude: [2000] }), 'pass')
    assert.equal(decide({ ownerGroupsInclude: [] }), 'pass')
    assert.equal(decide({ excludeOutboundCidrs: ['10.96.0.10'] }), '127.0.0.1:15053')
    assert.equal(decide({ includeOutboundCidrs: [] }), '127.0.0.1:15053')
  })
})
