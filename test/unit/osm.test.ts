// The options of OSM, osm-edge and FSM, what the three differ in, and which pods are theirs.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { type PodFacts, selects } from '../../core/describe.ts'
import { osmDefaults, osmScript } from '../meshes/osm/rules.ts'
import { ask, fsmPod, interceptionFor, osm, osmPod, rulesOf, withScript } from './osm-pods.ts'
import { container, podFacts } from './pods.ts'

const edgePod = (more: Partial<PodFacts> = {}) => osmPod({ containers: [container('app'), container('sidecar')], ...more })
const namespace = (labels: Readonly<Record<string, string>>, annotations: Readonly<Record<string, string>> = {}) => ({
  name: 'shop',
  labels,
  annotations,
})

group('options of OSM', () => {
  it('has the rules of the mesh in their order', () => {
    const options = {
      localProxyMode: 'PodIP',
      localDNSProxy: true,
      networkInterfaceExclusionList: ['net1'],
      outboundIPRangeExclusionList: ['192.0.2.0/24'],
      outboundPortExclusionList: [22],
      inboundPortExclusionList: [22],
    }
    const interception = interceptionFor(edgePod(), options)
    assert.deepEqual(rulesOf(interception, 'outbound'), [
      'IPv6 is not captured',
      'sidecar calls localhost',
      'DNS',
      'sidecar calls its own pod',
      'stays in the pod',
      'sidecar goes out',
      'excluded interface',
      'excluded destination',
      'excluded port',
      'everything else',
    ])
    assert.deepEqual(rulesOf(interception, 'inbound'), [
      'IPv6 is not captured',
      'excluded port',
      'excluded interface',
      'port of the sidecar',
      'everything else',
    ])
    assert.deepEqual(interception.targets, {
      outbound: { port: 15001, ipv6: false },
      inbound: { port: 15003, ipv6: false },
      app: { ipv4: '10.9.0.2', ipv6: false },
      dns: { ipv4: '127.0.0.153', port: 5300, ipv6: false },
    })
    assert.deepEqual(interception.sets?.['ports of the sidecar'], { ports: [15010, '15901-15904'] })
    assert.deepEqual(interception.proxy, { uid: 1500 })
  })

  it('moves ports and the user', () => {
    const { targets, sets, proxy } = interceptionFor(osmPod(), { proxyPort: 1, inboundPort: 2, proxyUid: 3 })
    assert.deepEqual([targets?.outbound?.port, targets?.inbound?.port, sets?.sidecar, proxy], [1, 2, { uid: [3] }, { uid: 3 }])
    const root = osmPod({ containers: [container('app'), container('envoy', { uid: 0 })] })
    assert.deepEqual(interceptionFor(root).sets?.sidecar, { uid: [1500] }, "the mesh's rules name the user, whatever the container runs as")
  })

  it('takes the first IPv4 address for PodIP', () => {
    const podIp = (addresses: readonly string[]) => ask(osmPod({ addresses }), { localProxyMode: 'PodIP' })
    const dual = podIp(['fd00::1', '10.0.0.9', '10.0.0.8'])
    assert.ok('interception' in dual)
    assert.equal(dual.interception.targets?.app?.ipv4, '10.0.0.9')
    const six = podIp(['fd00::1'])
    assert.ok('refused' in six)
    assert.match(six.warnings.join(), /^localProxyMode PodIP: expected an IPv4 address of the pod, got 'fd00::1'/)
    const unknown = podIp([])
    assert.ok('cannot' in unknown)
    assert.match(unknown.cannot, /address is not known yet/)
  })

  it('has the rule for DNS in osm-edge and FSM, by the option, and says that OSM has none', () => {
    for (const pod of [edgePod(), fsmPod()]) {
      const answer = ask(pod, { localDNSProxy: true })
      assert.ok('interception' in answer && 'dns' in (answer.interception.targets ?? {}))
      assert.deepEqual(answer.warnings, [])
      assert.ok(!('dns' in (interceptionFor(pod).targets ?? {})))
    }
    const answer = ask(osmPod(), { localDNSProxy: true })
    assert.ok('interception' in answer && !('dns' in (answer.interception.targets ?? {})))
    assert.deepEqual(answer.warnings, ['localDNSProxy has no effect: OSM has no rule for DNS'])
  })

  it('intercepts nothing where the mesh has no rules in pods', () => {
    for (const interceptionMode of ['NodeLevel', 'ebpf', 'none']) {
      const answer = ask(osmPod(), { interceptionMode })
      assert.ok('cannot' in answer)
      assert.match(answer.cannot, new RegExp(`^interceptionMode ${interceptionMode}: `))
    }
    assert.ok('interception' in ask(osmPod(), { interceptionMode: 'iptables' }))
  })

  it('refuses options that a MeshConfig cannot have, or that no rule can', () => {
    const wrong = [
      { outboundIPRangeExclusionList: ['10.0.0.1'] },
      { outboundIPRangeInclusionList: ['fd00::/8'] },
      { outboundIPRangeInclusionList: ['*'] },
      { outboundPortExclusionList: [0] },
      { inboundPortExclusionList: [65536] },
      { inboundPortExclusionList: ['80-90'] },
      { networkInterfaceExclusionList: ['sixteen-letters-'] },
      { networkInterfaceExclusionList: ['a/b'] },
      { networkInterfaceExclusionList: [''] },
      { localProxyMode: 'podip' },
      { flavour: 'consul' },
      { proxyUid: -1 },
      { namespaces: [] },
    ]
    for (const options of wrong) assert.equal(osm.options.safeParse(options).success, false, JSON.stringify(options))
  })

  it('reads the annotations of the flavour, which it sees from the pod', () => {
    const annotations = { 'openservicemesh.io/inbound-port-exclusion-list': '1', 'flomesh.io/inbound-port-exclusion-list': '2' }
    const port = (more: Partial<PodFacts>, options = {}) =>
      interceptionFor(podFacts({ annotations, labels: {}, containers: [], ...more }), options).sets?.['excluded inbound ports']?.ports?.[0]
    assert.equal(port({}), 1)
    assert.equal(port({}, { flavour: 'fsm' }), 2)
    assert.equal(port({ labels: { 'fsm-proxy-uuid': '' } }), 2)
    assert.equal(port({ labels: { 'fsm-proxy-uuid': '' } }, { flavour: 'osm' }), 1)
    assert.equal(port({ containers: [container('fsm-init')] }), 2)
    assert.equal(port({ containers: [container('sidecar')] }), 1)
    assert.equal(port({ namespace: namespace({ 'flomesh.io/monitored-by': 'fsm' }) }), 2)
    assert.equal(port({ annotations: { 'flomesh.io/inbound-port-exclusion-list': '2' } }), 2)
  })
})

group('pods of OSM', () => {
  const isOurs = (facts: PodFacts, options?: object) => selects(osm, facts, options === undefined ? undefined : osm.options.parse(options))
  const injected = { 'openservicemesh.io/sidecar-injection': 'enabled' }
  const monitored = { 'openservicemesh.io/monitored-by': 'osm' }
  const envoy = [container('app'), container('envoy')]

  it('are those that have its sidecar and were injected', () => {
    for (const pod of [osmPod(), edgePod(), fsmPod()]) assert.equal(isOurs(pod), true)
    assert.equal(isOurs(osmPod({ labels: {}, containers: [...envoy, container('osm-init')] })), true)
    assert.equal(isOurs(osmPod({ labels: {} })), false, 'a container of that name alone')
    assert.equal(isOurs(osmPod({ containers: [container('app')] })), false, 'without a sidecar')
    assert.equal(isOurs(podFacts()), false)
  })

  it('or that the mesh would inject: by the annotation of the pod, else of the namespace', () => {
    const asked = (
      pod: Readonly<Record<string, string>>,
      ns: Readonly<Record<string, string>>,
      labels: Readonly<Record<string, string>> = monitored,
    ) => isOurs(podFacts({ containers: envoy, annotations: pod, namespace: namespace(labels, ns) }))
    assert.equal(asked(injected, {}), true)
    assert.equal(asked({}, injected), true)
    assert.equal(asked(injected, { ...injected, ...monitored }, {}), false, 'monitored-by is a label')
    assert.equal(asked({ 'openservicemesh.io/sidecar-injection': 'No' }, injected), false)
    assert.equal(asked({ 'openservicemesh.io/sidecar-injection': 'YES' }, { 'openservicemesh.io/sidecar-injection': 'false' }), true)
    assert.equal(asked({}, {}), false)
    assert.equal(asked(injected, {}, {}), false, 'nobody monitors the namespace')
    assert.equal(asked(injected, {}, { 'flomesh.io/monitored-by': 'fsm' }), false, "another mesh's annotation")
  })

  const waiting = (facts: Partial<PodFacts>) => podFacts({ containers: envoy, ...facts })
  const said = (word: string) => ({ 'openservicemesh.io/sidecar-injection': word })
  const ignored = namespace({ ...monitored, 'openservicemesh.io/ignore': '' }, injected)

  it('are not those of namespaces that the mesh ignores, or that say no', () => {
    assert.equal(isOurs(waiting({ namespace: namespace(monitored, injected) })), true)
    assert.equal(isOurs(waiting({ namespace: ignored })), false)
    assert.equal(isOurs(waiting({ annotations: said('disabled'), namespace: namespace(monitored, injected) })), false)
    for (const name of ['kube-system', 'kube-public', 'osm-system', 'fsm-system']) {
      assert.equal(isOurs(osmPod({ namespace: { name, labels: {}, annotations: {} } })), false, name)
    }
    assert.equal(isOurs(osmPod({ namespace: { name: 'kube-system', labels: {}, annotations: {} } }), { excludeNamespaces: [] }), true)
  })

  it('have the reason where the config lists one that the mesh leaves alone', () => {
    const answer = ask(waiting({ annotations: said('no') }))
    assert.ok('cannot' in answer)
    assert.match(answer.cannot, /sidecar-injection says that it shall have no sidecar; OSM intercepts nothing/)
    const left = ask(waiting({ namespace: ignored }))
    assert.ok('cannot' in left)
    assert.match(left.cannot, /namespace has the label openservicemesh\.io\/ignore; OSM/)
  })

  it('are refused when the annotation says neither yes nor no', () => {
    for (const facts of [{ annotations: said('on') }, { namespace: namespace(monitored, said('')) }]) {
      assert.equal(isOurs(waiting(facts)), false)
      const answer = ask(waiting(facts))
      assert.ok('refused' in answer)
      assert.equal(answer.warnings.length, 1)
    }
  })

  it('stay what they are once they were injected, whatever the words for the injector become, with one warning', () => {
    const initOnly = { labels: {}, containers: withScript(osmScript(osmDefaults)) }
    for (const how of [{}, initOnly]) {
      const rules = interceptionFor(osmPod(how))
      for (const [facts, named] of [
        [
          { annotations: said('disabled') },
          /^openservicemesh\.io\/sidecar-injection says that it shall have no sidecar; OSM reads that when it creates/,
        ],
        [{ annotations: said('on') }, /^annotation openservicemesh\.io\/sidecar-injection: expected enabled.*, got 'on'; OSM reads/],
        [{ namespace: namespace(monitored, said('false')) }, /sidecar-injection says/],
        [{ namespace: ignored }, /^its namespace has the label openservicemesh\.io\/ignore; OSM reads/],
        [{ annotations: said('no'), namespace: ignored }, /sidecar-injection .* and its namespace has the label/],
      ] as const) {
        const pod = osmPod({ ...how, ...facts })
        assert.equal(isOurs(pod), true)
        const answer = ask(pod)
        assert.ok('interception' in answer, JSON.stringify(answer))
        assert.deepEqual(answer.interception, rules)
        assert.equal(answer.warnings.length, 1, answer.warnings.join('\n'))
        assert.match(answer.warnings[0] ?? '', named)
      }
    }
    assert.deepEqual(ask(osmPod({ annotations: said('enabled') })).warnings, [])
    assert.equal(isOurs(fsmPod({ namespace: namespace({ 'flomesh.io/ignore': 'false' }) })), true)
  })
})
