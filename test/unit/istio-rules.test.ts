// The rules that the differential tests compare with: the texts are written from Istio's tables, rule by rule.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type IstioRuleOptions, istioRules } from '../lab/istio-iptables.ts'
import { type MeshOptions, names, readPod, type SidecarPod, traffic } from '../lab/istio-options.ts'

const lines = (text: string) =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')

const owner = (match: string, id: number, loopback = '127.0.0.1/32') => `
  -A ISTIO_OUTPUT -o lo ! -d ${loopback} -p tcp ! --dport 15008 -m owner --${match}-owner ${id} -j ISTIO_IN_REDIRECT
  -A ISTIO_OUTPUT -o lo -m owner ! --${match}-owner ${id} -j RETURN
  -A ISTIO_OUTPUT -m owner --${match}-owner ${id} -j RETURN`

const chains = `
  -A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
  -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
  -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006`

const expected: readonly (readonly [string, IstioRuleOptions, string])[] = [
  [
    'a pod without annotations',
    {},
    `*nat
    -N ISTIO_INBOUND
    -N ISTIO_REDIRECT
    -N ISTIO_IN_REDIRECT
    -N ISTIO_OUTPUT
    ${chains}
    -A PREROUTING -p tcp -j ISTIO_INBOUND
    -A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
    -A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
    -A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
    -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
    -A OUTPUT -j ISTIO_OUTPUT
    -A ISTIO_OUTPUT -p tcp --dport 15020 -j RETURN
    -A ISTIO_OUTPUT -p udp --dport 15020 -j RETURN
    -A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
    ${owner('uid', 1337)}
    ${owner('gid', 1337)}
    -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
    -A ISTIO_OUTPUT -j ISTIO_REDIRECT
    COMMIT`,
  ],
  [
    'lists of everything, a loopback network that is not the address',
    {
      proxyUids: [3, 4],
      proxyGids: [1, 2],
      inboundPortsInclude: [4000, 5000],
      outboundRangesInclude: ['1.1.0.0/16', '9.9.9.0/24'],
      outboundRangesExclude: ['10.0.0.0/8', 'fd00::/8'],
      outboundPortsInclude: [32000],
      outboundPortsExclude: [],
      ownerGroupsExclude: [888, 889],
      loopbackCidr: '127.0.0.1/8',
      dropInvalid: true,
    },
    `*mangle
    -A PREROUTING -m conntrack --ctstate INVALID -j DROP
    COMMIT
    *nat
    -N ISTIO_INBOUND
    -N ISTIO_REDIRECT
    -N ISTIO_IN_REDIRECT
    -N ISTIO_OUTPUT
    ${chains}
    -A PREROUTING -p tcp -j ISTIO_INBOUND
    -A ISTIO_INBOUND -p tcp --dport 4000 -j ISTIO_IN_REDIRECT
    -A ISTIO_INBOUND -p tcp --dport 5000 -j ISTIO_IN_REDIRECT
    -A OUTPUT -j ISTIO_OUTPUT
    -A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
    ${owner('uid', 3, '127.0.0.1/8')}
    ${owner('uid', 4, '127.0.0.1/8')}
    ${owner('gid', 1, '127.0.0.1/8')}
    ${owner('gid', 2, '127.0.0.1/8')}
    -A ISTIO_OUTPUT -m owner --gid-owner 888 -j RETURN
    -A ISTIO_OUTPUT -m owner --gid-owner 889 -j RETURN
    -A ISTIO_OUTPUT -d 127.0.0.1/8 -j RETURN
    -A ISTIO_OUTPUT -d 10.0.0.0/8 -j RETURN
    -A ISTIO_OUTPUT -p tcp --dport 32000 -j ISTIO_REDIRECT
    -A ISTIO_OUTPUT -d 1.1.0.0/16 -j ISTIO_REDIRECT
    -A ISTIO_OUTPUT -d 9.9.9.0/24 -j ISTIO_REDIRECT
    COMMIT`,
  ],
  [
    'interfaces, loopback among the captured networks, groups that are captured, nothing inbound',
    {
      excludeInterfaces: ['net1', 'net2'],
      rerouteInterfaces: ['eth1', 'eth2'],
      outboundRangesInclude: ['127.1.2.3/32', '2.0.0.0/8'],
      inboundPortsInclude: [],
      outboundPortsExclude: [],
      ownerGroupsInclude: [202, 203],
    },
    `*nat
    -N ISTIO_INBOUND
    -N ISTIO_REDIRECT
    -N ISTIO_IN_REDIRECT
    -N ISTIO_OUTPUT
    -A PREROUTING -i net1 -j RETURN
    -A OUTPUT -o net1 -j RETURN
    -A PREROUTING -i net2 -j RETURN
    -A OUTPUT -o net2 -j RETURN
    -A PREROUTING -i eth1 -j RETURN
    -A PREROUTING -i eth2 -j RETURN
    ${chains}
    -A OUTPUT -j ISTIO_OUTPUT
    -A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
    -A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
    -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
    -A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
    -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
    -A ISTIO_OUTPUT -m owner ! --gid-owner 202 -m owner ! --gid-owner 203 -j RETURN
    -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
    -I PREROUTING 1 -i eth1 -d 127.1.2.3/32 -j ISTIO_REDIRECT
    -I PREROUTING 1 -i eth2 -d 127.1.2.3/32 -j ISTIO_REDIRECT
    -A ISTIO_OUTPUT -d 127.1.2.3/32 -j ISTIO_REDIRECT
    -I PREROUTING 1 -i eth1 -d 2.0.0.0/8 -j ISTIO_REDIRECT
    -I PREROUTING 1 -i eth2 -d 2.0.0.0/8 -j ISTIO_REDIRECT
    -A ISTIO_OUTPUT -d 2.0.0.0/8 -j ISTIO_REDIRECT
    COMMIT`,
  ],
]

describe("Istio's rules as text", () => {
  for (const [what, options, text] of expected) {
    it(what, () => assert.deepEqual(lines(istioRules(options)), lines(text)))
  }

  it('an empty list of owner groups lets everything pass', () => {
    const rules = lines(istioRules({ ownerGroupsInclude: [] }))
    assert.equal(rules[rules.indexOf('-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN') - 1], '-A ISTIO_OUTPUT -j RETURN')
  })

  it('0.0.0.0/0 is no loopback network, 127.0.0.1/0 is one', () => {
    const local = '-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN'
    assert(lines(istioRules({ outboundRangesInclude: ['0.0.0.0/0'] })).includes(local))
    assert(!lines(istioRules({ outboundRangesInclude: ['127.0.0.1/0'] })).includes(local))
  })
})

describe('what a pod tells Istio', () => {
  const pod = (annotations: Readonly<Record<string, string>>, sidecar: object = {}): SidecarPod => ({
    annotations,
    containers: [{ name: 'app' }, { name: 'istio-proxy', ...sidecar }],
  })

  function rulesOf(annotations: Readonly<Record<string, string>>, options: MeshOptions = {}, sidecar: object = {}) {
    const reading = readPod(pod(annotations, sidecar), options)
    assert('rules' in reading, JSON.stringify(reading))
    return reading.rules
  }

  it('excluded ports depend on who sets the rules up', () => {
    const annotations = { [traffic('excludeInboundPorts')]: ' 8080, 15021' }
    assert.deepEqual(rulesOf({}).outboundPortsExclude, [15020])
    assert.deepEqual(rulesOf({}, { setup: 'init' }).outboundPortsExclude, [])
    assert.deepEqual(rulesOf(annotations).inboundPortsExclude, [8080, 15021, 15020, 15090])
    assert.deepEqual(rulesOf(annotations, { setup: 'init' }).inboundPortsExclude, [15090, 15021, 8080, 15021, 15020])
    assert.deepEqual(rulesOf({ [names.statusPort]: '0' }, { setup: 'init' }).inboundPortsExclude, [15090, 15021])
  })

  it('the init container takes the user for the group, and root for neither', () => {
    const sidecar = { uid: 1000810000, gid: 1337 }
    assert.deepEqual(rulesOf({}, {}, sidecar).proxyGids, [1337])
    assert.deepEqual(rulesOf({}, { setup: 'init' }, sidecar).proxyGids, [1000810000])
    assert.deepEqual(rulesOf({}, { proxyUid: [3, 4] }, { uid: 0, gid: 0 }).proxyUids, [3, 4])
  })

  it('only the init container reads owner groups and loopback from the pod', () => {
    const env = { ISTIO_OUTBOUND_OWNER_GROUPS: '1000,1001', ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: '127.0.0.1/8' }
    assert.equal(rulesOf({}, {}, { env }).ownerGroupsInclude, '*')
    assert.deepEqual(rulesOf({}, { setup: 'init' }, { env }).ownerGroupsInclude, [1000, 1001])
    assert.equal(rulesOf({}, { setup: 'init' }, { env }).loopbackCidr, '127.0.0.1/8')
  })

  it('the init container does not start with a loopback network or a list of groups that it cannot use', () => {
    const groups = Array.from({ length: 65 }, (_, index) => index).join()
    for (const [name, text] of [
      ['ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR', '127.0.0.1'],
      ['ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR', '127.0.0.0/7'],
      ['ISTIO_OUTBOUND_OWNER_GROUPS', groups],
    ] as const) {
      const env = { [name]: text }
      assert.deepEqual(readPod(pod({}, { env }), { setup: 'init' }), { refused: name })
      assert('rules' in readPod(pod({}, { env }), { setup: 'cni' }))
    }
  })

  it('the newer annotation for virtual machines wins, also when it is empty', () => {
    const annotations = { [traffic('kubevirtInterfaces')]: 'net1', [names.reroute]: '' }
    assert.deepEqual(rulesOf(annotations).rerouteInterfaces, [])
  })

  const refused: readonly (readonly [string, string])[] = [
    [traffic('includeOutboundIPRanges'), '10.0.0.1'],
    [traffic('includeOutboundIPRanges'), '*,10.0.0.0/8'],
    [traffic('includeOutboundIPRanges'), '10.0.0.0/8, 11.0.0.0/8'],
    [traffic('includeOutboundIPRanges'), '10.0.0.0/8,'],
    [traffic('excludeOutboundIPRanges'), '*'],
    [traffic('excludeOutboundIPRanges'), '10.0.0.0/33'],
    [traffic('includeInboundPorts'), '80,'],
    [traffic('includeInboundPorts'), '65536'],
    [traffic('excludeInboundPorts'), '*'],
    [traffic('excludeOutboundPorts'), '80-90'],
    [traffic('excludeInterfaces'), 'a-name-of-16-chr'],
    [names.mode, 'NONE'],
    [names.mode, ''],
  ]
  for (const [annotation, value] of refused) {
    it(`refuses ${annotation}: "${value}"`, () => assert.deepEqual(readPod(pod({ [annotation]: value }), {}), { refused: annotation }))
  }

  it('TPROXY is a kind of rules that is not compared', () => {
    assert.deepEqual(readPod(pod({ [names.mode]: 'TPROXY' }), {}), { unsupported: names.mode })
  })
})
