// Which pods are Kuma's, whose user the sidecar is, DNS, and the options.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { type PodFacts, selects } from '../../core/describe.ts'
import { testPlugin } from '../../core/testing.ts'
import { ask, injected, interceptionFor, kuma, kumaPod, summary, traffic, withInit, withSidecar } from './kuma-pods.ts'
import { container } from './pods.ts'

const injection = 'kuma.io/sidecar-injection'
const namespace = (labels: Readonly<Record<string, string>>, name = 'shop') => ({ name, labels, annotations: {} })

group('pods of Kuma', () => {
  it('are those with a sidecar that nobody has set up yet', () => {
    const marked = { annotations: { 'kuma.io/sidecar-injected': 'true' } }
    const chosen = (more: Partial<PodFacts>, options?: object) => selects(kuma, kumaPod(more), options && kuma.options.parse(options))
    assert.equal(chosen(marked), true)
    assert.equal(chosen({}), false)
    assert.equal(chosen({ annotations: { 'kuma.io/sidecar-injected': 'false' } }), false)
    assert.equal(chosen({ ...marked, containers: [container('app')] }), false)
    assert.equal(chosen({ ...marked, containers: [container('kuma-dp')] }), false)
    // A native sidecar is among the init containers, which are containers like others here.
    assert.equal(chosen({ ...marked, containers: [container('kuma-validation', { uid: 5678 }), container('kuma-sidecar'), container('app')] }), true)
    assert.equal(chosen({ ...marked, ...withInit() }), false)
    assert.equal(chosen({ ...marked, ...withInit() }, { setup: 'init' }), true)
    for (const name of ['kube-system', 'kuma-system']) assert.equal(chosen({ ...marked, namespace: namespace({}, name) }), false, name)
    assert.equal(chosen({ ...marked, namespace: namespace({}, 'kuma-system') }, { excludeNamespaces: [] }), true)
  })

  it('tell by a label whether they have one, and the pod wins over its namespace', () => {
    const chosen = (own: string | undefined, of?: string, annotations = {}) =>
      selects(
        kuma,
        kumaPod({
          annotations,
          labels: own === undefined ? {} : { [injection]: own },
          namespace: namespace(of === undefined ? {} : { [injection]: of }),
        }),
      )
    for (const yes of ['enabled', 'true', 'yes'])
      assert.deepEqual([chosen(yes), chosen(undefined, yes), chosen(yes, 'disabled')], [true, true, true], yes)
    for (const no of ['disabled', 'false', 'no'])
      assert.deepEqual([chosen(no), chosen(undefined, no), chosen(no, 'enabled')], [false, false, false], no)
    // The namespace's label may have changed since the pod was injected.
    assert.deepEqual(
      [chosen(undefined, 'disabled', { 'kuma.io/sidecar-injected': 'true' }), chosen('no', 'yes', { 'kuma.io/sidecar-injected': 'true' })],
      [true, false],
    )
    assert.equal(chosen(undefined, undefined, { [injection]: 'enabled' }), false) // an annotation is none
    assert.equal(chosen('on'), true) // so that somebody says what is wrong with it
    const wrong = ask({ labels: { [injection]: 'on' } })
    assert.ok('refused' in wrong)
    assert.match(wrong.refused, /with label kuma\.io\/sidecar-injection: expected enabled, disabled, .*, got 'on'\./)
    const wrongNamespace = ask({ namespace: namespace({ [injection]: '1' }) })
    assert.ok('refused' in wrongNamespace)
    assert.match(wrongNamespace.refused, /label kuma\.io\/sidecar-injection of the namespace: .*got '1'/)
    const off = ask({ labels: { [injection]: 'disabled' } })
    assert.ok('cannot' in off)
    assert.match(off.cannot, /sidecar-injection says that it shall have no sidecar/)
  })

  it("know the sidecar's user by its configuration, an annotation, its container or an option", () => {
    assert.deepEqual(summary(withSidecar({ uid: 77 })).uid, [77])
    const nobody = { containers: [container('app'), container('kuma-sidecar')] }
    assert.deepEqual(summary(nobody).uid, [5678])
    assert.deepEqual(summary(nobody, { proxyUid: 9 }).uid, [9])
    assert.deepEqual(summary({ ...withSidecar({ uid: 77 }), annotations: { 'kuma.io/sidecar-uid': '88' } }).uid, [88])
    assert.deepEqual(
      summary(
        { ...withSidecar({ uid: 77 }), ...injected({ kumaDPUser: '99', redirect: { dns: { enabled: true } } }) },
        { captureDns: 'all', nameservers: ['10.0.0.10'] },
      ).uid,
      [99],
    )
    assert.deepEqual(summary(withSidecar({ uid: 77 }, container('kuma-init', { args: ['--kuma-dp-user=66'] }))).uid, [66])
    const named = ask({ annotations: { 'kuma.io/sidecar-uid': 'envoy' } })
    assert.ok('cannot' in named)
    assert.match(
      named.cannot,
      /annotation kuma\.io\/sidecar-uid: expected the id of a user, up to 4294967294; names cannot be looked up here, got 'envoy'/,
    )
  })

  it('do not start with an app that runs as the sidecar', () => {
    const twins = withSidecar({}, container('twin', { uid: 5678 }), container('kuma-validation', { uid: 5678 }))
    const refused = ask(twins)
    assert.ok('refused' in refused)
    assert.match(refused.refused, /container twin runs as user 5678, as the sidecar does: expected another runAsUser/)
    // Kuma has looked at this one: it must be an init container, which may.
    const started = ask({ ...twins, annotations: { 'kuma.io/sidecar-injected': 'true' } })
    assert.ok('interception' in started)
    assert.deepEqual(started.warnings, ['container twin runs as user 5678, as the sidecar does: nothing that it sends is captured'])
  })
})

group('DNS of Kuma', () => {
  const servers = (nameservers: readonly string[] | undefined, options: object = {}) =>
    ask(nameservers === undefined ? {} : { nameservers }, { captureDns: 'servers', ...options })

  it('goes to the servers that the pod has, or that the options have', () => {
    for (const facts of [
      servers(['10.96.0.10', '::ffff:10.96.0.11', 'fd00::a']),
      servers(undefined, { nameservers: ['10.96.0.10', '10.96.0.11', 'fd00::a'] }),
    ]) {
      assert.ok('interception' in facts)
      assert.deepEqual(facts.interception.sets?.['name servers'], { cidrs: ['10.96.0.10', '10.96.0.11', 'fd00::a'] })
    }
  })

  it('over TCP passes only in families that have a server', () => {
    const past = (nameservers: readonly string[]) => {
      const answer = servers(nameservers)
      assert.ok('interception' in answer)
      return answer.interception.outbound.find(({ name }) => name === 'DNS over TCP goes out')?.when?.family
    }
    assert.deepEqual([past(['10.96.0.10']), past(['fd00::a']), past(['10.96.0.10', 'fd00::a'])], ['ipv4', 'ipv6', undefined])
  })

  it('is not captured without a server, and the pod says so', () => {
    for (const [answer, message] of [
      [servers(undefined), /^DNS is not captured: only queries to the name servers of the pod/],
      [servers(['fd00::a'], { ipFamilyMode: 'ipv4' }), /^DNS is not captured: its name servers have IPv6 addresses/],
    ] as const) {
      assert.ok('interception' in answer)
      assert.deepEqual(
        answer.interception.outbound.filter(({ name }) => name.startsWith('DNS')),
        [],
      )
      assert.match(answer.warnings[0] ?? '', message)
    }
    const zone = servers(['fe80::1%eth0'])
    assert.ok('refused' in zone)
    assert.match(zone.refused, /name server fe80::1%eth0: expected an address without a zone/)
  })

  it('is switched by the annotations of Kuma 2', () => {
    assert.equal(summary({ annotations: { 'kuma.io/builtin-dns': 'disabled' } }).dns, false)
    assert.equal(
      summary({ annotations: { 'kuma.io/builtin-dns': 'enabled', 'kuma.io/builtin-dns-port': '1053' } }, { captureDns: 'none' }).ports.dns,
      1053,
    )
  })
})

group('the options of Kuma', () => {
  it('are refused at their place when they mean nothing', () => {
    const issuesOf = (options: unknown) =>
      (kuma.options.safeParse(options).error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
    const bad = {
      ...{ excludeInboundPorts: [80, 70000], excludeOutboundCidrs: ['10.0.0.1/8'], proxyPort: 0, prxyUid: 1, setup: 'ambient', version: '3' },
      ...{
        excludeInboundCidrs: ['*'],
        excludeOutboundPortsForUids: ['22:1000', '80:*'],
        proxyUid: -1,
        readinessPort: 65536,
        nameservers: ['kube-dns'],
      },
    }
    assert.deepEqual(
      issuesOf(bad)
        .map((each) => each.split(':')[0])
        .sort(),
      [
        ...[
          '',
          'excludeInboundCidrs',
          'excludeInboundPorts.1',
          'excludeOutboundCidrs.0',
          'excludeOutboundPortsForUids.1',
          'nameservers.0',
          'proxyPort',
        ],
        ...['proxyUid', 'readinessPort', 'setup', 'version'],
      ],
    )
    for (const [options, message] of [
      [{ dnsPort: 15001 }, 'dnsPort: proxyPort and dnsPort are both 15001,'],
      [{ inboundPort: 15053 }, 'inboundPort: inboundPort and dnsPort are both 15053,'],
      [{ inboundPort6: 15010 }, 'inboundPort6: version 2.14 takes connections of both families at inboundPort;'],
      [{ excludeOutboundPortsForUids: ['80:1,2'] }, 'excludeOutboundPortsForUids.0: expected the id of one user from 0 to 65535,'],
    ] as const) {
      const [first = '', ...others] = issuesOf(options)
      assert.ok(first.startsWith(message) && others.length === 0, `${first} ${others}`)
    }
    assert.deepEqual(issuesOf({ inboundPort6: 15011, version: '2.7' }), [])
  })

  it('give IPv6 a port of its own with version 2.7', () => {
    const targets = (options: object) => interceptionFor({}, { version: '2.7', ...options }).targets?.['inbound of IPv6']
    assert.deepEqual([targets({}), targets({ inboundPort6: 15011 }), targets({ inboundPort6: 15006 })], [{ port: 15010 }, { port: 15011 }, undefined])
    assert.equal(interceptionFor({}, { version: '2.9' }).targets?.['inbound of IPv6'], undefined)
  })
})

const excluded = {
  [`${traffic}/exclude-outbound-ports`]: '9300',
  [`${traffic}/exclude-inbound-ports`]: '22',
  [`${traffic}/exclude-outbound-ips`]: '192.0.2.0/24,2001:db8:1::/48',
  [`${traffic}/exclude-inbound-ips`]: '10.8.0.0/16,fd08::/16',
  [`${traffic}/exclude-outbound-ports-for-uids`]: 'tcp:8000-8099:1000-1999;udp:53:2000',
}
testPlugin(kuma, {
  pods: [
    ...[{}, excluded, { 'kuma.io/gateway': 'enabled' }, { 'kuma.io/transparent-proxying-ip-family-mode': 'ipv4' }].map((annotations) =>
      kumaPod({ labels: { [injection]: 'enabled' }, annotations }),
    ),
    kumaPod({
      labels: { [injection]: 'enabled' },
      ...injected({ redirect: { dns: { enabled: true }, outbound: { includePorts: [80] }, inbound: { includePorts: [80] } } }),
      nameservers: ['10.96.0.10'],
    }),
  ],
  options: [{}, { version: '2.7' }, { version: '2.9' }],
})

group('a pod that the injector of Kuma 2 wrote, without kuma-init', () => {
  const written = (more: Readonly<Record<string, string>> = {}) => ({ annotations: { 'kuma.io/transparent-proxying': 'enabled', ...more } })

  it('has only what the injector wrote', () => {
    const { dns, excluded } = summary(written(), { excludeInboundPorts: [7] })
    assert.deepEqual({ dns, excluded }, { dns: false, excluded: [7] })
    const both = summary(written({ 'kuma.io/builtin-dns': 'enabled', 'kuma.io/application-probe-proxy-port': '9001' }))
    assert.deepEqual([both.dns, both.excluded], [true, [9001]])
    assert.deepEqual([summary({}).dns, summary({}).excluded], [true, [9001]])
  })

  it('may have rules by protocol, up to 2.8', () => {
    const annotations = {
      [`${traffic}/exclude-outbound-tcp-ports-for-uids`]: '22:7;23:8',
      [`${traffic}/exclude-outbound-udp-ports-for-uids`]: '53:7',
    }
    for (const version of ['2.7', '2.9']) assert.equal(interceptionFor({ annotations }, { version }).outbound[2]?.when?.proto, 'udp')
    const answer = ask({ annotations })
    assert.ok('interception' in answer)
    assert.deepEqual(
      answer.warnings.map((warning) => warning.slice(0, 83)),
      Object.keys(annotations).map((name) => `annotation ${name}: it is ignored: Kuma`.slice(0, 84)),
    )
    assert.ok('refused' in ask({ annotations: { [`${traffic}/exclude-outbound-tcp-ports-for-uids`]: '7' } }, { version: '2.7' }))
  })

  it("is told that Kuma's own eBPF mode has no effect", () => {
    const answer = ask(written({ 'kuma.io/transparent-proxying-ebpf': 'enabled' }))
    assert.ok('interception' in answer)
    assert.equal(answer.warnings.length, 1)
    assert.match(answer.warnings[0] ?? '', /^annotation kuma\.io\/transparent-proxying-ebpf has no effect/)
  })
})
