// What is around the rules in osm-init and fsm-init, and how values in them are written: as the mesh writes them, or the line is named.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { type OsmRules, osmDefaults, osmScript } from '../meshes/osm/rules.ts'
import { ask, fsmPod, interceptionFor, osmPod, withScript } from './osm-pods.ts'

const base = osmScript(osmDefaults)
const withRules = (rules: Partial<OsmRules>) => osmScript({ ...osmDefaults, ...rules })
const answerTo = (script: string) => ask(osmPod({ containers: withScript(script) }))

/** The answer must be `cannot` with the line. */
function cannot(script: string, line: number, title: string): void {
  const answer = answerTo(script)
  assert.ok('cannot' in answer, `${title}: ${JSON.stringify(answer)}`)
  assert.ok(answer.cannot.startsWith(`container osm-init: line ${line} '`), `${title}: ${answer.cannot}`)
  assert.match(answer.cannot, /is not understood/, title)
}

const lineWith = (script: string, text: string) => script.split('\n').findIndex((each) => each.includes(text)) + 1
const last = lineWith(base, 'COMMIT')

group('script of osm-init', () => {
  it('is taken as OSM, osm-edge and FSM write it, with and without the last line break', () => {
    const versions: Partial<OsmRules>[] = [
      {},
      { ownPorts: [15010, 15901, 15902, 15903] },
      { inboundPortExclusions: [30, 40], outboundPortExclusions: [10, 20], rangeExclusions: ['1.1.1.1/32', '2.2.2.2/32'] },
      { rangeInclusions: ['3.3.3.3/32', '4.4.4.4/32'], interfaces: ['eth0', 'eth1'], podIp: '-', dns: true },
    ]
    for (const rules of versions) {
      interceptionFor(osmPod({ containers: withScript(withRules(rules)) }))
      interceptionFor(osmPod({ containers: withScript(withRules(rules).trimEnd()) }))
      interceptionFor(fsmPod({ containers: withScript(withRules({ ...rules, chains: 'FSM' }), 'fsm-init') }))
    }
    const podIpLast = withRules({ podIp: '-', dns: true })
    const lines = podIpLast.split('\n')
    const [from, to] = [lineWith(podIpLast, '-j DNAT --to-destination $POD_IP'), lineWith(podIpLast, '5300')]
    const [dns = ''] = lines.splice(to - 1, 1)
    lines.splice(from - 1, 0, dns)
    interceptionFor(osmPod({ containers: withScript(lines.join('\n')) }))
  })

  it('has nothing before, between and after its lines', () => {
    const cases: readonly (readonly [title: string, script: string, line: number])[] = [
      ['CRLF', base.replaceAll('\n', '\r\n'), 1],
      ['an indented line', base.replace('*nat', ' *nat'), 3],
      ['an empty line', base.replace('*nat', '\n*nat'), 3],
      ['another option', base.replace('--noflush', '-n'), 1],
      ['a quoted word', base.replace('<<EOF', "<<'EOF'"), 1],
      ['no restore', base.split('\n').slice(1).join('\n'), 1],
      ['restore in a comment', `# ${base}`, 1],
      ['a comment that runs something', base.replace('interception rules', 'interception rules $(id)'), 2],
      ['a chain less', base.replace(':OSM_PROXY_OUTBOUND - [0:0]\n', ''), 6],
      ['a chain with another policy', base.replace(':OSM_PROXY_OUTBOUND - [0:0]', ':OSM_PROXY_OUTBOUND ACCEPT [0:0]'), 6],
      ['a chain emptied at the end', base.replace('COMMIT', ':OSM_PROXY_OUTBOUND - [0:0]\nCOMMIT'), last],
      ['a comment among the rules', base.replace('COMMIT', '# rules\nCOMMIT'), last],
      ['another table', base.replace('COMMIT', 'COMMIT\n*nat\nCOMMIT'), last + 1],
      ['an indented EOF', base.replace('\nEOF', '\n EOF'), last + 1],
      ['a second script', base + base, last + 2],
      ['a command at the end', `${base}iptables -t nat -F\n`, last + 2],
      ["another mesh's chain", base.replace('-A OUTPUT -p tcp -j OSM_', '-A OUTPUT -p tcp -j FSM_'), lineWith(base, '-A OUTPUT')],
      ['a chain without its prefix', base.replace('-A OSM_PROXY_OUTBOUND -d', '-A OUTBOUND -d'), lineWith(base, '-A OSM_PROXY_OUTBOUND -d')],
      ['a jump without the prefix', base.replace('-j OSM_PROXY_OUT_REDIRECT', '-j OUT_REDIRECT'), last - 1],
    ]
    for (const [title, script, line] of cases) cannot(script, line, title)
    const answer = answerTo(base.replace('COMMIT\n', ''))
    assert.ok('cannot' in answer)
    assert.equal(answer.cannot, "container osm-init: it has no line 'COMMIT'")
  })

  it('has values as the mesh writes them', () => {
    const [inbound, own] = ['--to-port 15003', '--dport 15010']
    const cases: readonly (readonly [from: string, to: string])[] = [
      [inbound, '--to-port 015003'],
      [inbound, '--to-port 15003,15004'],
      [inbound, '--to-port 15003-15010'],
      [inbound, '--to-port http'],
      [inbound, '--to-port 0'],
      [own, '--dport http'],
      [own, '--dport 15010:15020'],
      [own, '--dport 1,2'],
      ['--dport 15000', '--dport https'],
      ['! --uid-owner 1500', '! --uid-owner 01500'],
    ]
    for (const [from, to] of cases) {
      const script = base.replace(from, to)
      cannot(script, lineWith(script, to), to)
    }
    for (const name of ['"eth0"', "'eth0'", '$X', '`id`', 'eth0\\', '!eth0', '-j']) {
      const script = withRules({ interfaces: [name] })
      cannot(script, lineWith(script, `-i ${name}`), name)
    }
    for (const network of ['10.0.0.1', 'example.org', '10.0.0.0/8,10.1.0.0/16', '10.0.0.0/255.0.0.0']) {
      const script = withRules({ rangeExclusions: [network] })
      cannot(script, lineWith(script, `-d ${network}`), network)
    }
  })

  it('is refused, with the line, for an address, a port or a user that iptables does not take', () => {
    const podIp = withRules({ podIp: '-' })
    for (const [script, text] of [
      [podIp.replace('$POD_IP', '010.0.0.1'), '010.0.0.1'],
      [podIp.replace('$POD_IP', '999.1.1.1'), '999.1.1.1'],
      [podIp.replace('$POD_IP', '...'), '...'],
      [base.replace('--to-port 15003', '--to-port 70000'), '70000'],
      [base.replaceAll('1500 ', '4294967295 '), '4294967295'],
      [withRules({ interfaces: ['ééééééééé'] }), 'ééééééééé'],
    ] as const) {
      const answer = answerTo(script)
      assert.ok('refused' in answer, `${text}: ${JSON.stringify(answer)}`)
      assert.ok(answer.warnings[0]?.startsWith(`container osm-init: line ${lineWith(script, text)} '-`), answer.warnings[0])
      assert.ok(answer.warnings[0]?.includes(`got '${text}`), answer.warnings[0])
    }
    for (const address of ['0.0.0.0', '224.0.0.1', '255.255.255.255']) {
      const script = podIp.replace('$POD_IP', address)
      cannot(script, lineWith(script, address), address)
    }
  })

  it('with thousands of wrong lines has a few complaints', () => {
    const answer = answerTo(withRules({ rangeExclusions: Array.from({ length: 20_000 }, (_, index) => `10.0.${index}.0/33`) }))
    assert.ok('refused' in answer)
    assert.equal(answer.warnings.length, 8)
    assert.equal(answer.warnings.at(-1), 'container osm-init: and 19993 more')
  })

  it('counts, and each list of the annotations that it does not have gets one warning', () => {
    const script = withRules({ inboundPortExclusions: [22, 80], outboundPortExclusions: [6379], rangeExclusions: ['10.9.8.7/16'] })
    const warningsFor = (annotations: Readonly<Record<string, string>>) => {
      const named = Object.fromEntries(Object.entries(annotations).map(([name, text]) => [`openservicemesh.io/${name}-list`, text]))
      const answer = ask(osmPod({ containers: withScript(script), annotations: named }))
      assert.ok('interception' in answer)
      assert.deepEqual(answer.interception, interceptionFor(osmPod({ containers: withScript(script) })))
      return answer.warnings
    }
    const same = { 'inbound-port-exclusion': ' 22', 'outbound-port-exclusion': '6379', 'outbound-ip-range-exclusion': '10.9.0.0/16' }
    assert.deepEqual(warningsFor(same), [])
    const [ports = '', ...others] = warningsFor({ ...same, 'inbound-port-exclusion': '22,23' })
    assert.match(
      ports,
      /^annotation openservicemesh\.io\/inbound-port-exclusion-list has no effect: the rules in osm-init do not have 23; OSM read it when/,
    )
    assert.deepEqual(others, [])
    const wrong = warningsFor({ 'outbound-port-exclusion': 'http', 'outbound-ip-range-exclusion': '', 'outbound-ip-range-inclusion': '10.0.0.0/8' })
    assert.equal(wrong.length, 3)
    assert.match(wrong[0] ?? '', /outbound-port-exclusion-list has no effect: expected ports from 1 to 65535, .*, got 'http'; OSM read it/)
    assert.match(wrong[2] ?? '', /do not have 10\.0\.0\.0\/8;/)
  })

  it('with the rule for DNS says so by itself, whatever the option', () => {
    const script = withRules({ chains: 'FSM', dns: true })
    for (const options of [{}, { localDNSProxy: true }]) {
      for (const pod of [fsmPod({ containers: withScript(script, 'fsm-init') }), osmPod({ containers: withScript(withRules({ dns: true })) })]) {
        const answer = ask(pod, options)
        assert.ok('interception' in answer && 'dns' in (answer.interception.targets ?? {}))
        assert.deepEqual(answer.warnings, [])
      }
    }
  })
})
