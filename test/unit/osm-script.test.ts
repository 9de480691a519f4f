// The rules as the container osm-init or fsm-init has them: read from its arguments, whatever the annotations say.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { type OsmRules, osmDefaults, osmScript } from '../meshes/osm/rules.ts'
import { ask, fsmPod, interceptionFor, osmPod, withScript } from './osm-pods.ts'
import { container } from './pods.ts'

const podOf = (script: string, more = {}) => osmPod({ containers: withScript(script), ...more })
const scriptOf = (rules: Partial<OsmRules> = {}) => osmScript({ ...osmDefaults, ...rules })
const line = (script: string, text: string) => `line ${script.split('\n').findIndex((each) => each.includes(text)) + 1} `

const full: Partial<OsmRules> = {
  podIp: '10.9.0.2',
  dns: true,
  interfaces: ['net1', 'eth+'],
  inboundPortExclusions: [22, 7070],
  outboundPortExclusions: [6379],
  rangeExclusions: ['10.9.8.7/16', '0.0.0.0/0'],
  rangeInclusions: ['192.0.2.0/24', '198.51.100.1/32'],
}

group('rules in osm-init', () => {
  it('come to what the same lists come to as annotations and options', () => {
    const options = {
      localProxyMode: 'PodIP',
      networkInterfaceExclusionList: ['net1', 'eth+'],
      inboundPortExclusionList: [22, 7070],
      outboundPortExclusionList: [6379],
      outboundIPRangeExclusionList: ['10.9.0.0/16', '0.0.0.0/0'],
      outboundIPRangeInclusionList: ['192.0.2.0/24', '198.51.100.1/32'],
      localDNSProxy: true,
      flavour: 'osm-edge',
    }
    const [read, made] = [interceptionFor(podOf(scriptOf(full))), interceptionFor(osmPod(), options)]
    assert.deepEqual(read.outbound, made.outbound)
    assert.deepEqual(read.inbound, made.inbound)
    assert.deepEqual(read.targets, made.targets)
    const asWritten = {
      'ports of the sidecar': { ports: [15010, 15901, 15902, 15903, 15904] },
      'excluded inbound interfaces': { interfaces: ['eth+', 'net1'] },
    }
    assert.deepEqual(read.sets, { ...made.sets, ...asWritten })
    assert.deepEqual(interceptionFor(podOf(scriptOf())).outbound, interceptionFor(osmPod()).outbound)
  })

  it('count, and annotations and options do not', () => {
    const annotations = { 'openservicemesh.io/inbound-port-exclusion-list': '80', 'openservicemesh.io/outbound-ip-range-exclusion-list': 'nonsense' }
    const pod = podOf(scriptOf({ inboundPortExclusions: [22] }), { annotations })
    const { sets } = interceptionFor(pod, { inboundPortExclusionList: [23], localProxyMode: 'PodIP', proxyUid: 7 })
    assert.deepEqual([sets?.['excluded inbound ports'], sets?.sidecar], [{ ports: [22] }, { uid: [1500] }])
  })

  it('have ports, user and own ports of the version that wrote them', () => {
    const script = scriptOf({ uid: 1337, outboundPort: 4140, inboundPort: 4143, ownPorts: [15010, 15901] })
    const { sets, targets } = interceptionFor(podOf(script))
    assert.deepEqual([sets?.sidecar, sets?.['ports of the sidecar']], [{ uid: [1337] }, { ports: [15010, 15901] }])
    assert.deepEqual([targets?.outbound?.port, targets?.inbound?.port], [4140, 4143])
  })

  it('are read in fsm-init too', () => {
    const pod = fsmPod({ containers: withScript(scriptOf({ chains: 'FSM', inboundPortExclusions: [22] }), 'fsm-init') })
    assert.deepEqual(interceptionFor(pod).sets?.['excluded inbound ports'], { ports: [22] })
  })

  it('follow from annotations where the container has no arguments', () => {
    const annotations = { 'openservicemesh.io/inbound-port-exclusion-list': '80' }
    const pod = osmPod({ annotations, containers: [container('envoy'), container('osm-init')] })
    assert.deepEqual(interceptionFor(pod).sets?.['excluded inbound ports'], { ports: [80] })
  })

  it('have the first IPv4 address for POD_IP, or the address that is written', () => {
    const script = scriptOf({ podIp: '-' })
    const addressOf = (text: string, addresses: readonly string[]) => interceptionFor(podOf(text, { addresses })).targets?.app?.ipv4
    assert.equal(addressOf(script, ['10.0.0.7', '10.0.0.8']), '10.0.0.7')
    assert.equal(addressOf(script.replace('$POD_IP', '10.0.0.8'), ['10.0.0.7']), '10.0.0.8')
    assert.ok('refused' in ask(podOf(script, { addresses: ['fd00::1'] })))
    assert.ok('cannot' in ask(podOf(script, { addresses: [] })))
  })

  it('with more than 15 ports in a rule are taken, and the pod is told', () => {
    const ports = Array.from({ length: 17 }, (_, index) => 100 + index)
    const script = scriptOf({ outboundPortExclusions: [9] }).replace('--dports 9 ', `--dports ${ports.join(',')} `)
    const answer = ask(podOf(script))
    assert.ok('interception' in answer)
    assert.deepEqual(answer.interception.sets?.['excluded outbound ports'], { ports })
    assert.equal(answer.warnings.length, 1)
    assert.ok(answer.warnings[0]?.startsWith(`container osm-init: ${line(script, '--dports')}`.trimEnd()), answer.warnings[0])
  })

  it('are refused where iptables-restore fails on them', () => {
    const wrong: readonly (readonly [Partial<OsmRules>, RegExp])[] = [
      [{ inboundPortExclusions: [70000] }, /expected ports from 1 to 65535, .*, got '70000'$/],
      [{ rangeExclusions: ['fd00::/8'] }, /expected networks of IPv4/],
      [{ rangeInclusions: ['10.0.0.0/08'] }, /got '10\.0\.0\.0\/08'$/],
      [{ interfaces: ['sixteen-letters-'] }, /at most 15 bytes/],
    ]
    for (const [rules, message] of wrong) {
      const answer = ask(podOf(scriptOf(rules)))
      assert.ok('refused' in answer, JSON.stringify(answer))
      assert.match(answer.warnings[0] ?? '', message)
      assert.match(answer.warnings[0] ?? '', /^container osm-init: line \d+ '-/)
    }
  })

  it('are not guessed at: a line that the mesh does not write is named', () => {
    const script = scriptOf({ ...full, podIp: false })
    const after = (text: string, more: string) => script.replace(new RegExp(`(.*${text.replaceAll(/[.$*]/g, '\\$&')}.*)`), `$1\n${more}`)
    const wrong: readonly (readonly [string, string])[] = [
      [after('*nat', '-A POSTROUTING -j MASQUERADE'), 'MASQUERADE'],
      [after('-o net1', '-A OSM_PROXY_OUTBOUND -s 10.0.0.0/8 -j RETURN'), '-s 10.0.0.0/8'],
      [after('-j RETURN', '-A OSM_PROXY_OUTBOUND -o net7 -j RETURN'), '-o net7'],
      [after('OUTBOUND -j RETURN', '-A OSM_PROXY_OUTBOUND -d 10.0.0.0/8 -j RETURN'), '-d 10.0.0.0/8'],
      [after('COMMIT', '*mangle'), '*mangle'],
      [`sysctl -w net.ipv4.ip_forward=1\n${script}`, 'sysctl'],
      [script.replace(/.*--dport 5300.*|.*127\.0\.0\.153.*/, '-A OUTPUT -p udp --dport 53 -j REDIRECT --to-ports 15053'), '15053'],
      [script.replace('-A OUTPUT -p tcp', '-A OUTPUT -p udp'), '-p udp'],
    ]
    for (const [text, named] of wrong) {
      const answer = ask(podOf(text))
      assert.ok('cannot' in answer, `${named}: ${JSON.stringify(answer)}`)
      assert.match(answer.cannot, /^container osm-init: line \d+ '.*' is not understood/, answer.cannot)
      assert.ok(answer.cannot.includes(named), `${named}: ${answer.cannot}`)
    }
  })

  it('lack nothing that the mesh writes, and speak of one user', () => {
    const cannot = (text: string) => {
      const answer = ask(podOf(text))
      return 'cannot' in answer ? answer.cannot : ''
    }
    assert.match(cannot(''), /^container osm-init: line 1 '' is not understood: expected 'iptables-restore --noflush <<EOF'$/)
    assert.match(cannot(scriptOf().replace(/.*OUTBOUND -j OSM.*\n/, '')), /the chain OUTBOUND ends too early/)
    assert.match(
      cannot(scriptOf().replace(/.*! --uid-owner.*\n/, '')),
      /'-A OSM_PROXY_OUTBOUND -m owner --uid-owner 1500 -j RETURN' is not understood at this place/,
    )
    assert.match(cannot(scriptOf().replace('! --uid-owner 1500', '! --uid-owner 1501')), /several users as the sidecar: 1500, 1501/)
  })

  it('are read in a second, however long they are, and messages stay short', () => {
    const started = process.cpuUsage().user
    const long = [
      'x'.repeat(262_144),
      ' '.repeat(262_144),
      '\n'.repeat(262_144),
      '-I OUTPUT -p tcp\n'.repeat(16_000),
      `-A OUTPUT ${'-o '.repeat(80_000)}`,
    ]
    for (const text of [...long, scriptOf({ rangeExclusions: Array(10_000).fill('10.0.0.0/8') as string[] })]) {
      const answer = ask(podOf(text))
      const message = 'cannot' in answer ? answer.cannot : ''
      assert.ok(message.length < 400, message.slice(0, 1000))
    }
    assert.ok(process.cpuUsage().user - started < 3_000_000)
  })
})
