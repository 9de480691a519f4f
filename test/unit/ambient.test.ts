// What each annotation, label and option of ambient does, with good values and with bad ones.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { type PodFacts, selects } from '../../core/describe.ts'
import { textOf } from '../repo/files.ts'
import { ambient, ambientPod, ask, bypass, dnsCapture, mode, reroute, rulesFor } from './ambient-pods.ts'

const namesOf = (facts: Partial<PodFacts>, options: unknown = {}) => {
  const { outbound, inbound } = rulesFor(facts, options)
  return [outbound.map(({ name }) => name), inbound.map(({ name }) => name)]
}
const withDns = ['to the source of probes', 'DNS over UDP', 'DNS over TCP', 'on its way back', 'stays in the pod', 'everything else']
const withoutDns = withDns.filter((name) => !name.startsWith('DNS'))
const inbound = ['probe of the node', 'everything else']

const truths = { true: ['1', 't', 'T', 'true', 'TRUE', 'True'], false: ['0', 'f', 'F', 'false', 'FALSE', 'False'] }
const junk = ['', 'yes', 'no', 'on', 'tRUE', ' true', 'true ', '2', 'enabled', '"true"']

group('annotations of ambient', () => {
  it('captures DNS by default, and as the annotation says before the option', () => {
    assert.deepEqual(namesOf({}), [withDns, inbound])
    assert.deepEqual(namesOf({}, { captureDns: false }), [withoutDns, inbound])
    for (const option of [true, false]) {
      for (const text of truths.true) assert.deepEqual(namesOf({ annotations: { [dnsCapture]: text } }, { captureDns: option })[0], withDns, text)
      for (const text of truths.false) assert.deepEqual(namesOf({ annotations: { [dnsCapture]: text } }, { captureDns: option })[0], withoutDns, text)
    }
  })

  it('leaves alone what comes in where the pod bypasses inbound capture, and only that', () => {
    for (const text of truths.true) assert.deepEqual(namesOf({ annotations: { [bypass]: text } }), [withDns, []], text)
    for (const text of truths.false) assert.deepEqual(namesOf({ annotations: { [bypass]: text } }), [withDns, inbound], text)
    assert.deepEqual(Object.keys(rulesFor({ annotations: { [bypass]: 'true' } }, { captureDns: false }).targets ?? {}), ['outbound'])
  })

  it('ignores what is neither true nor false, with one warning that names the annotation and the value', () => {
    for (const text of junk) {
      for (const [annotation, options, names] of [
        [dnsCapture, {}, withDns],
        [dnsCapture, { captureDns: false }, withoutDns],
        [bypass, {}, withDns],
      ] as const) {
        const answer = ask({ annotations: { [annotation]: text } }, options)
        assert.ok('interception' in answer)
        assert.deepEqual(
          answer.interception.outbound.map(({ name }) => name),
          names,
          text,
        )
        assert.equal(answer.interception.inbound.length, 2)
        assert.deepEqual(answer.warnings, [`annotation ${annotation}: expected true or false, got '${text}'; Istio ignores it`])
      }
    }
  })

  it('cannot serve virtual machines, and says which annotation asks for it', () => {
    const reasonFor = (text: string) => {
      const answer = ask({ annotations: { [reroute]: text } })
      assert.deepEqual(answer.warnings, [])
      return 'cannot' in answer ? answer.cannot : ''
    }
    assert.match(reasonFor('vnet0'), /istio\.io\/reroute-virtual-interfaces: traffic of the virtual machine at vnet0: .*no socket of the pod sees it/)
    assert.match(reasonFor(' k6t-1 ,, k6t-2 '), /at k6t-1, k6t-2:/)
    for (const text of ['', ',', ' , ,\t']) assert.deepEqual(namesOf({ annotations: { [reroute]: text } }), [withDns, inbound])
    assert.match(reasonFor('vnet0,vnet1,vnet2,vnet3,vnet4'), /at vnet0, vnet1, vnet2, vnet3:/)
  })

  it('is not started by Istio with names that iptables does not take', () => {
    for (const [text, shown] of [
      ['vnet0,a-name-of-16-chr', 'a-name-of-16-chr'],
      ['a b', 'a b'],
      ['vnet0\nCOMMIT', 'vnet0?COMMIT'],
    ] as const) {
      const answer = ask({ annotations: { [reroute]: text } })
      assert.ok('refused' in answer, text)
      const complaint = `annotation ${reroute}: expected names of network interfaces, at most 15 characters without blanks, got '${shown}'`
      assert.deepEqual(answer.warnings, [complaint])
      assert.ok(answer.refused.startsWith(`Istio does not start a pod with ${complaint}.`))
    }
  })

  it("says that a sidecar's annotations and other values of the label have no effect, once each", () => {
    const ports = 'traffic.sidecar.istio.io/excludeOutboundPorts'
    const ranges = 'traffic.sidecar.istio.io/includeOutboundIPRanges'
    const answer = ask({ annotations: { [ports]: '25', [ranges]: 'nonsense' }, labels: { [mode]: 'Ambient' } })
    assert.ok('interception' in answer)
    assert.deepEqual(answer.interception, rulesFor())
    assert.deepEqual(answer.warnings, [
      `label ${mode}: expected ambient or none, got 'Ambient'; Istio ignores it`,
      `annotation ${ranges} has no effect: it is for sidecars, and ambient ignores it`,
      `annotation ${ports} has no effect: it is for sidecars, and ambient ignores it`,
    ])
  })

  it("says that another value of the namespace's label has no effect, in one warning", () => {
    const inShop = (own: string | undefined, ofNamespace: string) =>
      ask({ labels: own === undefined ? {} : { [mode]: own }, namespace: { name: 'shop', labels: { [mode]: ofNamespace }, annotations: {} } })
    const expected = `label ${mode} of the namespace: expected ambient or none, got 'Ambient'; Istio ignores it`
    for (const own of [undefined, 'ambient']) assert.deepEqual(inShop(own, 'Ambient').warnings, [expected])
    for (const word of ['ambient', 'none']) assert.deepEqual(inShop('ambient', word).warnings, [])
  })

  it('keeps messages short and readable, and reads 256 kB within a second', () => {
    const long = 262_144
    const started = process.cpuUsage().user
    for (const value of ['x'.repeat(long), ','.repeat(long), ' '.repeat(long), `${' '.repeat(long)}x`, 'v,'.repeat(long / 2), '\u001b[31m\u202e']) {
      const answer = ask({ annotations: { [dnsCapture]: value, [bypass]: value, [reroute]: value }, labels: { [mode]: value } })
      for (const message of [...answer.warnings, 'cannot' in answer ? answer.cannot : '', 'refused' in answer ? answer.refused : '']) {
        assert.ok(message.length < 400, message)
        assert.doesNotMatch(message, /[\p{C}]/u)
      }
    }
    assert.ok(process.cpuUsage().user - started < 3_000_000, '6 values')
  })
})

group('options of ambient', () => {
  it('takes other sources of probes, of the families that are captured', () => {
    const probes = (options: object) => rulesFor({}, options).sets?.['source of probes']?.cidrs
    const six = 'e9ac:1e77:90ca:399f:4d6d:ece2:2f9b:3164'
    assert.deepEqual(probes({}), ['169.254.7.127', 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff'])
    assert.deepEqual(probes({ probeAddress: '169.254.9.9', probeAddress6: six }), ['169.254.9.9', six])
    assert.deepEqual(probes({ ipv6: false }), ['169.254.7.127'])
  })

  it('leaves IPv6 alone where it is not captured, before any other rule', () => {
    const six = 'IPv6 is not captured'
    assert.deepEqual(namesOf({}, { ipv6: false }), [
      [six, ...withDns],
      [six, ...inbound],
    ])
    for (const addresses of [['10.9.0.2'], ['fd09::2'], ['fd09::2', '10.9.0.2'], []]) {
      assert.deepEqual(rulesFor({ addresses }), rulesFor(), 'whatever addresses the pod has')
    }
  })

  it('refuses addresses of the wrong family, networks, zones and texts', () => {
    const wrong = (options: object) => ambient.options.safeParse(options).success === false
    for (const text of ['10.0.0.0/8', 'fd00::1', '::ffff:10.0.0.1', '10.0.0', '010.0.0.1', 'host', '']) assert.ok(wrong({ probeAddress: text }), text)
    for (const text of ['10.0.0.1', 'fd00::/8', 'fe80::1%eth0', '::ffff:10.0.0.1', 'x::1', '']) assert.ok(wrong({ probeAddress6: text }), text)
    assert.ok(wrong({ captureDns: 'all' }) && wrong({ ipv6: 'yes' }) && wrong({ proxyPort: 15001 }))
  })
})

group('pods of ambient', () => {
  const chosen = (pod?: string, namespace?: string, more: Partial<PodFacts> = {}, options?: object) =>
    selects(
      ambient,
      ambientPod({
        labels: pod === undefined ? {} : { [mode]: pod },
        namespace: { name: 'shop', labels: namespace === undefined ? {} : { [mode]: namespace }, annotations: {} },
        ...more,
      }),
      options === undefined ? undefined : ambient.options.parse(options),
    )

  it('are those whose label says so, else those of a namespace whose label does', () => {
    const rows: readonly (readonly [pod: string | undefined, namespace: string | undefined, selected: boolean])[] = [
      ['ambient', 'ambient', true],
      ['ambient', undefined, true],
      ['ambient', 'none', true],
      ['none', 'ambient', false],
      ['none', undefined, false],
      [undefined, 'ambient', true],
      ['sidecar', 'ambient', true],
      ['', 'ambient', true],
      ['sidecar', undefined, false],
      ['Ambient', undefined, false],
      [undefined, undefined, false],
      [undefined, 'none', false],
      [undefined, 'Ambient', false],
    ]
    for (const [pod, namespace, selected] of rows) assert.equal(chosen(pod, namespace), selected, `${pod} in ${namespace}`)
  })

  it('have no sidecar, and are not in an excluded namespace', () => {
    for (const status of ['{}', '']) assert.equal(chosen('ambient', 'ambient', { annotations: { 'sidecar.istio.io/status': status } }), false)
    const inSystem = { namespace: { name: 'kube-system', labels: { [mode]: 'ambient' }, annotations: {} } }
    assert.equal(chosen('ambient', undefined, inSystem), false)
    assert.equal(chosen('ambient', undefined, inSystem, { excludeNamespaces: ['istio-system'] }), true)
    assert.equal(chosen('ambient', undefined, {}, { excludeNamespaces: ['shop'] }), false)
  })

  it('are not those that the config lists although their own label or a sidecar speaks against it', () => {
    const reasonFor = (facts: Partial<PodFacts>) => {
      const answer = ask(facts)
      return 'cannot' in answer ? answer.cannot : ''
    }
    assert.match(
      reasonFor({ labels: { [mode]: 'none' } }),
      /^label istio\.io\/dataplane-mode: none says that it shall stay outside; ambient intercepts nothing/,
    )
    assert.match(reasonFor({ annotations: { 'sidecar.istio.io/status': '' } }), /^it has a sidecar \(annotation sidecar\.istio\.io\/status\)/)
    assert.equal(reasonFor({ namespace: { name: 'kube-system', labels: { [mode]: 'none' }, annotations: {} } }), '')
  })

  it('are described in docs/ambient.md, name by name', () => {
    const sources = ['ambient', 'options', 'rules', 'settings'].map((name) => textOf(`plugins/ambient/${name}.ts`)).join('\n')
    const found = new Set([...sources.matchAll(/'((?:[a-z.]+\.)?istio\.io\/[\w-]+)'/g)].map(([, name]) => name ?? ''))
    assert.ok(found.size >= 5, [...found].join(' '))
    const document = textOf('docs/ambient.md')
    for (const name of found) assert.ok(document.includes(`\`${name}\``), name)
    for (const option of Object.keys(ambient.options.parse({}) as object)) assert.ok(document.includes(`\`${option}\``), option)
  })
})
