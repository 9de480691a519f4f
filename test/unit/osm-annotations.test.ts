// What each annotation and option of OSM, osm-edge and FSM does, with good values and with bad ones.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { plugins } from '../../core/plugins.ts'
import { textOf } from '../repo/files.ts'
import { ask, fsmPod, interceptionFor, osmPod, rulesOf, setFor } from './osm-pods.ts'

const [outPorts, inPorts, outside, inside] = [
  'outbound-port-exclusion-list',
  'inbound-port-exclusion-list',
  'outbound-ip-range-exclusion-list',
  'outbound-ip-range-inclusion-list',
]
const own = (name: string) => `openservicemesh.io/${name}`
const annotated = (annotations: Readonly<Record<string, string>>) => osmPod({ annotations })
const many = (count: number) => Array.from({ length: count }, (_, index) => 7001 + index)

/** Annotation, value, and the end of the message; the mesh does not start a pod that has it. */
const refused: readonly (readonly [string, string, RegExp])[] = [
  [outPorts, '', /expected ports from 1 to 65535, separated by commas, got ''$/],
  [outPorts, '0', /got '0'$/],
  [outPorts, '-1', /got '-1'$/],
  [outPorts, '65536', /got '65536'$/],
  [outPorts, '80,', /got '' in '80,'$/],
  [outPorts, '80-90', /got '80-90'$/],
  [outPorts, '*', /got '\*'$/],
  [outPorts, 'http', /got 'http'$/],
  [outPorts, '80 90', /got '80 90'$/],
  [outPorts, '0x50', /got '0x50'$/],
  [outPorts, '80;90', /got '80;90'$/],
  [inPorts, '6379,ssh', /got 'ssh' in '6379,ssh'$/],
  [inPorts, '1e3', /got '1e3'$/],
  [outside, '', /expected networks of IPv4 like 10\.0\.0\.0\/8, separated by commas, got ''$/],
  [outside, '10.0.0.1', /got '10\.0\.0\.1'$/],
  [outside, '*', /got '\*'$/],
  [outside, '10.0.0.0/33', /got/],
  [outside, '10.0.0.0/08', /got '10\.0\.0\.0\/08'$/],
  [outside, '10.0.0.0/+8', /got/],
  [outside, '010.0.0.0/8', /got/],
  [outside, '10.0.0.0/255.0.0.0', /got/],
  [outside, 'fd00::/8', /got 'fd00::\/8'$/],
  [outside, '::ffff:10.0.0.0/104', /got/],
  [inside, '10.0.0.0/8,', /got '' in /],
  [inside, 'example.org/8', /got/],
]

group('annotations of OSM', () => {
  for (const [name, value, message] of refused) {
    it(`refuses ${name}: ${JSON.stringify(value)}, whoever's prefix it has`, () => {
      for (const [pod, prefix, title] of [
        [osmPod, 'openservicemesh.io', 'OSM'],
        [fsmPod, 'flomesh.io', 'FSM'],
      ] as const) {
        const answer = ask(pod({ annotations: { [`${prefix}/${name}`]: value } }))
        assert.ok('refused' in answer, JSON.stringify(answer))
        assert.equal(answer.warnings.length, 1)
        assert.ok(answer.warnings[0]?.startsWith(`annotation ${prefix}/${name}: `), answer.warnings[0])
        assert.match(answer.warnings[0] ?? '', message)
        assert.equal(answer.refused, `${title} does not start a pod with ${answer.warnings[0]}. Correct it and start the pod again`)
      }
    })
  }

  it('names every bad value of a pod', () => {
    const annotations = { [own(outPorts)]: 'http', [own(outside)]: 'all', 'openservicemesh.io/sidecar-injection': 'maybe' }
    const answer = ask(osmPod({ annotations, labels: {} }))
    assert.ok('refused' in answer)
    assert.equal(answer.warnings.length, 3)
    assert.match(answer.warnings[0] ?? '', /sidecar-injection: expected enabled, .*, got 'maybe'$/)
  })

  it('takes ports as Go reads them', () => {
    const ports = (value: string) => setFor('excluded outbound ports', annotated({ [own(outPorts)]: value }))
    assert.deepEqual(ports(' 80,\t+443 ,0010,\u008565535\u2003,80\n'), { ports: [80, 443, 10, 65535] })
    assert.deepEqual(setFor('excluded inbound ports', annotated({ [own(inPorts)]: '22' })), { ports: [22] })
    assert.ok('refused' in ask(annotated({ [own(outPorts)]: '\ufeff80' })))
  })

  it('takes networks as Go and then iptables read them', () => {
    const cidrs = (value: string) => setFor('excluded destinations', annotated({ [own(outside)]: value }))?.cidrs
    assert.deepEqual(cidrs('10.9.8.7/8, 192.0.2.1/32,0.0.0.0/0,10.0.0.0/8'), ['10.0.0.0/8', '192.0.2.1/32', '0.0.0.0/0'])
    assert.deepEqual(cidrs('10.9.8.7/010'), ['10.0.0.0/8'], 'the length in octal')
    assert.deepEqual(cidrs('10.9.8.7/0032'), ['10.9.8.0/26'])
  })

  it('captures what is included, and nothing else; without a list everything', () => {
    const names = (annotations: Readonly<Record<string, string>>, options = {}) =>
      rulesOf(interceptionFor(annotated(annotations), options), 'outbound')
    assert.equal(names({}).at(-1), 'everything else')
    assert.equal(names({ [own(inside)]: '10.0.0.0/8' }).at(-1), 'included destination')
    assert.equal(names({}, { outboundIPRangeInclusionList: ['10.0.0.0/8'] }).at(-1), 'included destination')
  })

  it('joins the lists of the pod and of the options', () => {
    const options = {
      outboundPortExclusionList: [6379, 80],
      inboundPortExclusionList: [7070],
      outboundIPRangeExclusionList: ['192.0.2.0/24'],
      outboundIPRangeInclusionList: ['10.0.0.0/8'],
      networkInterfaceExclusionList: ['net1', 'eth+'],
    }
    const pod = annotated({ [own(outPorts)]: '80,9090', [own(inPorts)]: '22', [own(outside)]: '10.1.0.0/16', [own(inside)]: '10.2.0.0/16' })
    const { sets = {} } = interceptionFor(pod, options)
    assert.deepEqual(sets['excluded outbound ports']?.ports, [6379, 80, 9090])
    assert.deepEqual(sets['excluded inbound ports']?.ports, [7070, 22])
    assert.deepEqual(sets['excluded destinations']?.cidrs, ['10.1.0.0/16', '192.0.2.0/24'])
    assert.deepEqual(sets['included destinations']?.cidrs, ['10.2.0.0/16', '10.0.0.0/8'])
    for (const name of ['excluded interfaces', 'excluded inbound interfaces']) assert.deepEqual(sets[name]?.interfaces, ['net1', 'eth+'])
  })

  it('takes more ports than a rule of iptables, and says once that the mesh does not start such a pod', () => {
    const answer = ask(annotated({ [own(inPorts)]: many(16).join(','), [own(outPorts)]: many(15).join(',') }))
    assert.ok('interception' in answer)
    assert.deepEqual(answer.interception.sets?.['excluded inbound ports'], { ports: many(16) })
    assert.equal(answer.warnings.length, 1)
    assert.match(
      answer.warnings[0] ?? '',
      /^annotation openservicemesh\.io\/inbound-port-exclusion-list: 16 ports; a rule of iptables takes 15, .*OSM does not start the pod/,
    )
    const joined = ask(annotated({ [own(outPorts)]: '1,2' }), { outboundPortExclusionList: many(14) })
    assert.match(joined.warnings[0] ?? '', /^annotation .*outbound-port-exclusion-list with option outboundPortExclusionList: 16 ports/)
    assert.match(ask(osmPod(), { inboundPortExclusionList: many(20) }).warnings.join(), /^option inboundPortExclusionList: 20 ports/)
  })

  it('says what it ignores: names of others, of nobody, and of the namespace', () => {
    const annotations = { 'flomesh.io/inbound-port-exclusion-list': '22', [own('outbound-port-inclusion-list')]: '80', [own('metrics')]: 'enabled' }
    const namespace = { name: 'shop', labels: {}, annotations: { [own(outPorts)]: '80' } }
    const answer = ask(osmPod({ annotations, namespace }))
    assert.ok('interception' in answer)
    assert.equal(answer.warnings.length, 3)
    assert.match(answer.warnings[0] ?? '', /^annotation flomesh\.io\/inbound-port-exclusion-list: OSM does not know it and ignores it$/)
    assert.match(answer.warnings[1] ?? '', /outbound-port-inclusion-list: OSM does not know it/)
    assert.match(answer.warnings[2] ?? '', /outbound-port-exclusion-list of the namespace: OSM reads such a list of pods only/)
    assert.equal(answer.interception.sets?.['excluded outbound ports'], undefined)
    assert.equal(answer.interception.sets?.['excluded inbound ports'], undefined)
  })

  it('says of thousands of names that it ignores them in a few warnings', () => {
    const names = Array.from({ length: 5000 }, (_, index) => own(`x${index}-list`))
    const { warnings } = ask(annotated(Object.fromEntries(names.map((name) => [name, '1']))))
    assert.equal(warnings.length, 8)
    assert.equal(warnings.at(-1), 'and 4993 more')
  })

  it('keeps messages short and readable, and reads 256 kB within a second', () => {
    const long = 262_144
    const values = ['x'.repeat(long), ','.repeat(long), ' '.repeat(long), `${' '.repeat(long)}x`, '1,'.repeat(long / 2), '\u001b[31m\u202e']
    const started = process.cpuUsage().user
    for (const value of [...values, '0'.repeat(long), '1.1.1.1/32,'.repeat(20_000)]) {
      for (const name of [outPorts, outside, 'sidecar-injection', `${value.slice(0, 300)}-list`]) {
        for (const warning of ask(annotated({ [own(name)]: value })).warnings) {
          assert.ok(warning.length < 400, warning)
          assert.doesNotMatch(warning, /[\p{C}]/u)
        }
      }
    }
    assert.ok(process.cpuUsage().user - started < 6_000_000, '32 values')
  })

  it('is described in docs/osm.md, name by name', () => {
    const document = textOf('docs/osm.md')
    const names = [...textOf('plugins/osm/annotations.ts').matchAll(/'([a-z-]+-list)'/g)].map(([, name]) => name ?? '')
    assert.ok(names.length >= 4)
    const others = ['sidecar-injection', 'monitored-by', 'ignore', 'osm-proxy-uuid', 'fsm-proxy-uuid', 'osm-init', 'fsm-init', 'envoy', 'sidecar']
    for (const name of [...names, ...others]) assert.ok(document.includes(name), name)
    for (const option of Object.keys(plugins.osm?.options.parse({ flavour: 'osm' }) as object)) assert.ok(document.includes(`\`${option}\``), option)
  })
})
