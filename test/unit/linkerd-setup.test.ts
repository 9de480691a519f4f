// The containers linkerd-init and linkerd-proxy, the options, pods of the control plane, and which pods are Linkerd's.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { textOf } from '../repo/files.ts'
import { annotated, ask, enrolled, inNamespace, isSelected, linkerd, named, rulesFor, summary, usual, withInit, withProxy } from './linkerd-pods.ts'
import { container } from './pods.ts'

/** As the injector writes them. */
const usualArguments = [
  ...['--ipv6=false', '--incoming-proxy-port', '4143', '--outgoing-proxy-port', '4140', '--proxy-uid', '2102'],
  ...['--inbound-ports-to-ignore', '4190,4191,4567,4568', '--outbound-ports-to-ignore', '4567,4568'],
]
const needed = ['--incoming-proxy-port=4143', '--outgoing-proxy-port=4140']
const bare = { ...usual, uid: [], inbound: [], outbound: [], ipv6: true }
const controlPlane = { labels: { 'linkerd.io/control-plane-component': 'destination' } }

group('linkerd-init', () => {
  it('is the most exact source: neither annotations, nor the proxy, nor options say otherwise', () => {
    const pod = {
      ...withInit(usualArguments, { uid: 7, gid: 8 }),
      ...annotated({ 'inbound-port': '1', 'skip-inbound-ports': '2', 'proxy-uid': '3' }),
    }
    const { rules, warnings } = enrolled(pod, { disableIPv6: false, skipSubnets: ['10.0.0.0/8'], proxyGid: 5, outboundPort: 6 })
    assert.deepEqual(summary(rules), usual)
    assert.deepEqual(warnings, [`annotation ${named('skip-inbound-ports')}: it is ignored: the arguments of linkerd-init say something else and win`])
    rulesFor({
      ...withInit(usualArguments),
      ...annotated({ 'skip-inbound-ports': '4567,4568', 'skip-outbound-ports': '4568,4567', 'skip-subnets': '' }),
    })
    const three = annotated({ 'skip-inbound-ports': '', 'skip-outbound-ports': '4567', 'skip-subnets': '10.0.0.0/8' })
    assert.equal(enrolled({ ...withInit(usualArguments), ...three }).warnings.length, 3)
    assert.deepEqual(summary(rulesFor(withInit(usualArguments), { setup: 'cni' })), usual)
  })

  const cases: readonly (readonly [string, readonly string[], object])[] = [
    ['nothing but the ports', needed, {}],
    ['short flags', ['-p', '5143', '-o=5140', '-u7', '-g', '8'], { ports: [5143, 5140], uid: [7], gid: [8] }],
    ['letters together', ['-wp', '4143', '-wo4140'], {}],
    ['IPv6 by name', [...needed, '--ipv6'], {}],
    ['no IPv6', [...needed, '--ipv6=f'], { ipv6: false }],
    ['the last number', [...needed, '--proxy-uid', '1', '--proxy-uid', '2'], { uid: [2] }],
    ['numbers of other bases', [...needed, '--proxy-uid', '0x7d0', '--proxy-gid=010'], { uid: [2000], gid: [8] }],
    ['no rule for root', [...needed, '--proxy-uid', '0', '--proxy-gid=-1'], {}],
    ['all lists together', [...needed, '--inbound-ports-to-ignore', '1,2-3', '--inbound-ports-to-ignore=4'], { inbound: [1, '2-3', 4] }],
    ['a list with quotation marks', [...needed, '--inbound-ports-to-ignore', '"25",26,"27-28"'], { inbound: [25, 26, '27-28'] }],
    ['an empty list', [...needed, '--inbound-ports-to-ignore', ''], {}],
    ['listed ports', [...needed, '--ports-to-redirect', '80,0', '-r443'], { listed: [80, 0, 443] }],
    ['networks', [...needed, '--subnets-to-ignore', '10.0.0.0/8, fd00::/8'], { subnets: ['10.0.0.0/8', 'fd00::/8'] }],
    ['networks without IPv6', [...needed, '--ipv6=false', '--subnets-to-ignore=10.0.0.0/8,fd00::/8'], { subnets: ['10.0.0.0/8'], ipv6: false }],
    ['what is no rule', [...needed, '--log-format', 'json', '--timeout-close-wait-secs=5', '--iptables-mode', 'nft', '-w', 'word', '-'], {}],
    ['the end of the flags', [...needed, '--', '--ipv6=false'], {}],
  ]
  for (const [what, args, changed] of cases) {
    it(`reads ${what}`, () => assert.deepEqual(summary(rulesFor(withInit(args))), { ...bare, ...changed }))
  }

  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [['--outgoing-proxy-port', '4140'], /argument --incoming-proxy-port of linkerd-init: expected a port from 1 to 65535, got '-1'/],
    [['-p', '4143', '-o', '0'], /--outgoing-proxy-port .*got '0'/],
    [['-p', '4143', '-o', '65536'], /got '65536'/],
    [[...needed, '--skip-everything'], /arguments of linkerd-init: expected a flag of linkerd-init, got '--skip-everything'/],
    [[...needed, '-x'], /got '-x'/],
    [[...needed, '--proxy-uid'], /arguments of linkerd-init: --proxy-uid: expected a value/],
    [[...needed, '--proxy-uid', 'root'], /--proxy-uid: expected a number, got 'root'/],
    [[...needed, '--proxy-uid', '4294967295'], /--proxy-uid .*expected a number up to 4294967294/],
    [[...needed, '--ipv6=no'], /--ipv6: expected true or false, got 'no'/],
    [[...needed, '--ports-to-redirect', 'http'], /--ports-to-redirect .*expected ports from 0 to 65535, got 'http'/],
    [[...needed, '--ports-to-redirect', '80-90'], /got '80-90'/],
    [[...needed, '--ports-to-redirect', ''], /--ports-to-redirect .*got ''/],
    [[...needed, `--ipv6=\u001b${'x'.repeat(1000)}`], /--ipv6: expected true or false, got '\?x{59}\.\.\.'/],
    [[...needed, '--subnets-to-ignore', '10.0.0.1'], /--subnets-to-ignore of linkerd-init: expected networks/],
    [[...needed, '--inbound-ports-to-ignore', 'http'], /--inbound-ports-to-ignore .*no port is left/],
    [[...needed, '--inbound-ports-to-ignore', '8"0'], /expected a list whose quotation marks stand around whole elements, in one line, got '8"0'/],
    [[...needed, '--inbound-ports-to-ignore', '"80'], /got '"80'/],
  ]
  for (const [args, message] of wrong) {
    it(`refuses ${args.join(' ')}`, () => {
      const answer = ask(withInit(args))
      assert.ok('refused' in answer, JSON.stringify(answer))
      assert.match(answer.refused, message)
      assert.equal(answer.warnings.length, 1)
    })
  }

  it('drops what is no port, with one warning', () => {
    const { rules, warnings } = enrolled(withInit([...needed, '--inbound-ports-to-ignore', '80,http, 81']))
    assert.deepEqual(summary(rules), { ...bare, inbound: [80] })
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] ?? '', /^argument --inbound-ports-to-ignore of linkerd-init: .* got 'http', ' 81'; Linkerd ignores it$/)
  })

  it('knows no IPv6 without the flag where the proxy is one of before 2.16', () => {
    const addresses = (names: readonly string[]) =>
      Object.fromEntries(names.map((name) => [`LINKERD2_PROXY_OUTBOUND_LISTEN_${name}`, '127.0.0.1:4140']))
    const six = (names: readonly string[], more: readonly string[] = [], options = {}) =>
      summary(rulesFor(withInit([...needed, ...more], { env: addresses(names) }), options)).ipv6
    assert.deepEqual([six(['ADDR']), six(['ADDRS']), six(['ADDR', 'ADDRS']), six([])], [false, true, true, true])
    assert.deepEqual([six(['ADDR'], ['--ipv6']), six([], [], { version: '2.15' }), six([], ['--ipv6'], { version: '2.15' })], [true, false, false])
  })

  it('that is asked for help intercepts nothing', () => {
    for (const word of ['-h', '--help', '-wh']) {
      const answer = ask(withInit([word]))
      assert.ok('cannot' in answer, JSON.stringify(answer))
      assert.match(answer.cannot, /^argument -h or --help of linkerd-init: it writes no rules/)
    }
    assert.ok('refused' in ask(withInit(['--proxy-uid', 'x', '-h'])))
  })

  it('that only shows its rules intercepts nothing', () => {
    const answer = ask(withInit([...needed, '--simulate']))
    assert.ok('cannot' in answer)
    assert.match(answer.cannot, /--simulate of linkerd-init: it writes no rules/)
  })
})

group('linkerd-proxy', () => {
  const env = {
    LINKERD2_PROXY_INBOUND_LISTEN_ADDR: '[::]:5143',
    LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR: '127.0.0.1:1',
    LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: '127.0.0.1:5140,[::1]:5140',
    LINKERD2_PROXY_CONTROL_LISTEN_ADDR: '[::]:5190',
    LINKERD2_PROXY_ADMIN_LISTEN_ADDR: '0.0.0.0:5191',
  }

  it('says its ports and ids, whatever annotations and options do, with init', () => {
    const pod = { ...withProxy({ env, uid: 3000, gid: 3001 }), ...annotated({ 'inbound-port': '1', 'proxy-uid': '2', 'admin-port': '3' }) }
    const expected = { ...usual, ports: [5143, 5140], uid: [3000], gid: [3001], inbound: [5190, 5191, 4567, 4568], ipv6: true }
    assert.deepEqual(summary(rulesFor(pod, { outboundPort: 9 })), expected)
    const cni = enrolled(pod, { setup: 'cni' })
    assert.deepEqual(summary(cni.rules), { ...usual, uid: [2], inbound: [4190, 4191], outbound: [] })
    const ignored = (name: string) => `annotation ${named(name)}: it is ignored: the CNI plugin takes this port from its own configuration only`
    assert.deepEqual(cni.warnings, [ignored('inbound-port'), ignored('admin-port')])
  })

  it('has rules for IPv6 where it listens for it, or the option says so', () => {
    const listens = (value: string, options: object = {}) =>
      summary(rulesFor(withProxy({ env: { LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: value } }), options)).ipv6
    assert.equal(listens('127.0.0.1:4140'), false)
    assert.equal(listens('127.0.0.1:4140,[::1]:4140'), true)
    assert.equal(listens('127.0.0.1:4140', { disableIPv6: false }), true)
    assert.equal(listens('127.0.0.1:4140,[::1]:4140', { setup: 'cni' }), false)
  })

  it('as root has no rule by user; its identity is known to explain', () => {
    const rules = rulesFor(withProxy({ uid: 0, gid: 0 }))
    assert.deepEqual(summary(rules), { ...usual, uid: [] })
    assert.deepEqual(rules.proxy, { uid: 0, gid: 0 })
    assert.deepEqual(rulesFor({}).proxy, { uid: 2102 })
    assert.deepEqual(rulesFor(withProxy({ gid: 9 }), { setup: 'cni' }).proxy, { uid: 2102, gid: 9 })
  })

  it('with an address that is none is refused', () => {
    const answer = ask(withProxy({ env: { LINKERD2_PROXY_INBOUND_LISTEN_ADDR: '0.0.0.0:http' } }))
    assert.ok('refused' in answer)
    assert.match(answer.refused, /environment variable LINKERD2_PROXY_INBOUND_LISTEN_ADDR: expected a port from 1 to 65535, got 'http'/)
  })
})

group('the options of Linkerd', () => {
  it("have the defaults of Linkerd's charts", () => {
    assert.deepEqual(summary(rulesFor({})), usual)
    assert.deepEqual(summary(rulesFor({}, { setup: 'cni' })), { ...usual, inbound: [4190, 4191], outbound: [] })
    assert.deepEqual(summary(rulesFor({ containers: [] })), usual)
  })

  it('set what no pod says', () => {
    const options = {
      ...{ inboundPort: 1, outboundPort: 2, controlPort: 3, adminPort: 4, proxyUid: 5, proxyGid: 6, portsToRedirect: [7] },
      ...{ skipInboundPorts: ['8-9'], skipOutboundPorts: [], skipSubnets: ['10.0.0.0/8', 'fd00::/8'], disableIPv6: false },
    }
    const expected = {
      ports: [1, 2],
      uid: [5],
      gid: [6],
      inbound: [3, 4, '8-9'],
      outbound: [],
      listed: [7],
      subnets: ['10.0.0.0/8', 'fd00::/8'],
      ipv6: true,
    }
    for (const setup of ['init', 'cni']) assert.deepEqual(summary(rulesFor({}, { ...options, setup })), expected)
  })

  it('refuse what cannot be', () => {
    const bad = [{ inboundPort: 0 }, { proxyUid: -2 }, { proxyUid: 4_294_967_295 }, { skipInboundPorts: ['*'] }, { skipInboundPorts: ['http'] }]
    for (const each of [
      ...bad,
      { skipSubnets: ['*'] },
      { skipSubnets: ['10.0.0.1/8'] },
      { portsToRedirect: ['80-90'] },
      { version: '2.9' },
      { unknown: 1 },
    ])
      assert.equal(linkerd.options.safeParse(each).success, false, JSON.stringify(each))
  })

  it('of version 2.10: the proxy calls its own pod through the inbound port, for IPv4, without groups and networks', () => {
    const options = { version: '2.10', disableIPv6: false, proxyGid: 7 }
    const rules = rulesFor({}, options)
    assert.deepEqual(summary(rules), usual)
    assert.deepEqual(rules.outbound[1], {
      name: 'proxy calls its own pod',
      when: { proto: 'tcp', from: 'user of the proxy', to: 'pod' },
      unless: { to: 'loopback', port: 'skipped inbound ports' },
      then: 'inbound',
    })
    assert.deepEqual(rulesFor({}, { ...options, portsToRedirect: [80] }).outbound[1]?.when?.port, 'listed ports')
    assert.ok(rulesFor({}, { ...options, proxyUid: 0 }).outbound.every(({ then }) => then !== 'inbound'))
    const { rules: skipping, warnings } = enrolled(annotated({ 'skip-subnets': '10.0.0.0/8' }), options)
    assert.deepEqual(summary(skipping), usual)
    assert.deepEqual(warnings, ['skip-subnets: Linkerd knows no networks to skip before version 2.11; Linkerd ignores it'])
  })

  it('are described in docs/linkerd.md, name by name, and so are annotations, variables and arguments', () => {
    const sources = ['linkerd', 'args', 'complaints', 'flags', 'options', 'pods', 'rules', 'settings', 'values'].map((name) =>
      textOf(`plugins/linkerd/${name}.ts`),
    )
    const document = textOf('docs/linkerd.md')
    const variables = sources.flatMap((text) => [...text.matchAll(/'(LINKERD2_[A-Z0-9_]+)'/g)].map(([, name = '']) => name))
    const keys = sources.flatMap((text) => [...text.matchAll(/'((?:config\.)?linkerd\.io\/[\w-]+)'/g)].map(([, name = '']) => name))
    const annotations = ['inbound', 'outbound', 'control', 'admin'].map((name) => `config.linkerd.io/${name}-port`)
    const others = ['skip-inbound-ports', 'skip-outbound-ports', 'skip-subnets', 'proxy-uid', 'proxy-gid'].map((name) => `config.linkerd.io/${name}`)
    const flags = [...textOf('plugins/linkerd/args.ts').matchAll(/^ {2}'?([a-z][\w-]+)'?: \{ kind/gm)].map(([, name]) => `--${name}`)
    assert.ok(variables.length >= 5 && keys.length >= 3 && flags.length >= 15, [...variables, ...keys, ...flags].join(' '))
    const options = Object.keys(linkerd.options.parse({ skipInboundPorts: [], skipOutboundPorts: [] }) as object)
    for (const name of [...variables, ...keys, ...annotations, ...others, ...flags, ...options]) assert.ok(document.includes(`\`${name}\``), name)
  })
})

group('pods of the control plane', () => {
  it('call the API server without the proxy', () => {
    assert.deepEqual(summary(rulesFor(controlPlane)), { ...usual, outbound: [443, 6443] })
    assert.deepEqual(summary(rulesFor(controlPlane, { skipOutboundPorts: [25] })).outbound, [443, 6443])
    assert.deepEqual(summary(rulesFor(controlPlane, { setup: 'cni', skipOutboundPorts: [25] })).outbound, [25, 443, 6443])
    assert.deepEqual(
      summary(rulesFor({ ...controlPlane, ...annotated({ 'skip-outbound-ports': '25' }) }, { setup: 'cni' })).outbound,
      [25, 443, 6443],
    )
    assert.deepEqual(summary(rulesFor(controlPlane, { apiServerPorts: [8443] })).outbound, [8443])
    assert.deepEqual(summary(rulesFor({ ...controlPlane, ...withInit(usualArguments) })).outbound, [4567, 4568])
  })

  it('have ports left when the annotation has none', () => {
    const { rules, warnings } = enrolled({ ...controlPlane, ...annotated({ 'skip-outbound-ports': 'http' }) }, { setup: 'cni' })
    assert.deepEqual([summary(rules).outbound, warnings.length], [[443, 6443], 1])
  })
})

group('which pods are in the mesh', () => {
  const inject = (value: string) => ({ annotations: { 'linkerd.io/inject': value } })

  it('those with a proxy, also as a native sidecar', () => {
    assert.equal(isSelected({}), true)
    assert.equal(isSelected({ containers: [container('linkerd-proxy'), container('app')] }), true)
    assert.equal(isSelected({ containers: [container('app'), container('linkerd')] }), false)
    for (const value of ['enabled', 'ingress', '']) assert.equal(isSelected(inject(value)), true, value)
  })

  it('with cni, not those that have linkerd-init', () => {
    assert.equal(isSelected(withInit(usualArguments)), true)
    assert.equal(isSelected(withInit(usualArguments), { setup: 'cni' }), false)
  })

  it('not those that Linkerd gives no proxy, but for its control plane', () => {
    const disabled = { namespace: { name: 'shop', labels: {}, annotations: { 'linkerd.io/inject': 'disabled' } } }
    assert.equal(isSelected(inject('disabled')), false)
    assert.equal(isSelected(disabled), false)
    assert.equal(isSelected({ ...disabled, ...inject('enabled') }), true)
    assert.equal(isSelected({ ...controlPlane, ...inject('disabled') }), true)
    const answer = ask(inject('disabled'))
    assert.ok('cannot' in answer)
    assert.match(answer.cannot, /^linkerd\.io\/inject says that it shall have no proxy; Linkerd intercepts nothing/)
  })

  it('not those with a value that Linkerd does not know, and they are named', () => {
    for (const facts of [inject('true'), { namespace: { name: 'shop', labels: {}, ...inject('true') }, ...inject('enabled') }]) {
      assert.equal(isSelected(facts), false)
      const answer = ask(facts)
      assert.ok('cannot' in answer)
      assert.equal(answer.warnings.length, 1)
      assert.match(
        answer.warnings[0] ?? '',
        /linkerd\.io\/inject.*: expected enabled, ingress or disabled, got 'true'; Linkerd injects no proxy with it$/,
      )
    }
  })

  it('not those of namespaces that are left alone', () => {
    const namespace = (name: string, labels: Record<string, string> = {}) => ({ namespace: { name, labels, annotations: {} } })
    for (const name of ['kube-system', 'cert-manager']) {
      assert.equal(isSelected(namespace(name)), false, name)
      assert.equal(isSelected(namespace(name), { excludeNamespaces: [] }), true, name)
    }
    assert.equal(isSelected(inNamespace({}, { 'config.linkerd.io/admission-webhooks': 'disabled' })), false)
    assert.equal(isSelected({ ...inNamespace({}, { 'config.linkerd.io/admission-webhooks': 'disabled' }), ...controlPlane }), true)
  })
})
