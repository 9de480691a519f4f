// What Kuma's injector tells: its configuration in an annotation, and the flags of kuma-init.
import assert from 'node:assert/strict'
import { describe as group, it } from 'node:test'
import { ask, configAnnotation as config, injected, interceptionFor, summary, traffic, withInit } from './kuma-pods.ts'

group("the configuration of Kuma's injector", () => {
  it('says everything; what it leaves out has the default of its program', () => {
    const ports = { outbound: 15001, inbound: 15006 }
    assert.deepEqual(
      summary(injected({ cniMode: true, wait: 5, retry: { maxRetries: 4 } }), { proxyPort: 1, captureDns: 'all', excludeInboundPorts: [7] }),
      {
        ...{ ports, uid: [5678], excluded: [], inbound: true, six: true, dns: false },
      },
    )
    const all = {
      kumaDPUser: '5678',
      ipFamilyMode: 'ipv4',
      redirect: {
        dns: { enabled: true, captureAll: true, port: 1053, skipConntrackZoneSplit: false, resolvConfigPath: '/etc/resolv.conf' },
        inbound: { enabled: true, port: 16006, excludePorts: [9001, 9902], excludePortsForIPs: ['10.1.0.0/16,10.2.0.0/16'] },
        outbound: { enabled: true, port: 16001, excludePorts: '22, 23', excludePortsForUIDs: ['tcp:80:1000', 1003] },
      },
    }
    assert.deepEqual(summary(injected(all)), {
      ...{ ports: { outbound: 16001, inbound: 16006, dns: 1053 }, uid: [5678], excluded: [9001, 9902], inbound: true, six: false, dns: true },
    })
    const { sets = {} } = interceptionFor(injected(all))
    assert.deepEqual(sets['excluded sources'], { cidrs: ['10.1.0.0/16', '10.2.0.0/16'] })
    assert.deepEqual(sets['excluded outbound ports'], { ports: [22, 23] })
    assert.deepEqual(interceptionFor(injected({ redirect: { inbound: { enabled: false } } })).inbound, [])
    assert.deepEqual(summary({ annotations: { [config]: JSON.stringify(all) } }).ports.dns, 1053)
    assert.deepEqual(summary({ annotations: { [config]: '' } }).dns, true) // an empty annotation is none
  })

  it('gives way to annotations but for its own ports, and wins over those of Kuma 2', () => {
    const written = injected({ kumaDPUser: '5678', redirect: { inbound: { excludePorts: [8080, 9001, 9902] }, outbound: { port: 16001 } } })
    const both = (annotations: Readonly<Record<string, string>>) => ({ annotations: { ...written.annotations, ...annotations } })
    assert.deepEqual(summary(both({ [`${traffic}/exclude-inbound-ports`]: '9090' })).excluded, [9090, 9001, 9902])
    assert.deepEqual(
      summary(both({ [`${traffic}/exclude-inbound-ports`]: '9090', 'kuma.io/application-probe-proxy-port': '0' })).excluded,
      [9090, 9902],
    )
    assert.deepEqual(summary(both({ 'kuma.io/application-probe-proxy-port': '8088' })).excluded, [8080, 9001, 9902, 8088])
    assert.deepEqual(summary(both({ 'kuma.io/sidecar-uid': '5678', 'kuma.io/transparent-proxying-outbound-port': '16001' })).ports.outbound, 16001)
    const answer = ask(both({ 'kuma.io/sidecar-uid': '77', 'kuma.io/transparent-proxying-outbound-port': '15001', 'kuma.io/builtin-dns': 'enabled' }))
    assert.ok('interception' in answer)
    assert.deepEqual(answer.warnings, [
      `annotation kuma.io/sidecar-uid: it is ignored where it differs from 5678: ${config} wins`,
      `annotation kuma.io/transparent-proxying-outbound-port: it is ignored where it differs from 16001: ${config} wins`,
      `annotation kuma.io/builtin-dns: it is ignored: ${config} wins`,
    ])
  })

  it('gets an answer for each wrong value, with its place', () => {
    const wrong: readonly (readonly [string, RegExp])[] = [
      ['redirect: {inbound: {port: 70000}}', /redirect\.inbound\.port: expected a port from 1 to 65535, got '70000'/],
      ['redirect: {inbound: {port: "80"}}', /redirect\.inbound\.port: .*got '80'/],
      ['redirect: {outbound: {enabled: "yes"}}', /redirect\.outbound\.enabled: expected true or false, got 'yes'/],
      ['redirect: {outbound: {excludePorts: [80, http]}}', /redirect\.outbound\.excludePorts: .*got 'http'/],
      ['redirect: {outbound: {excludePortsForIPs: [""]}}', /excludePortsForIPs: expected addresses or networks, got an empty element/],
      ['redirect: {outbound: {excludePortsForIPs: 10.0.0.1}}', /excludePortsForIPs: expected a list, got '10\.0\.0\.1'/],
      ['redirect: {outbound: {excludePortsForUIDs: ["80:*"]}}', /excludePortsForUIDs: expected the id of one user/],
      ['redirect: []', /redirect: expected keys and values, got '\[\]'/],
      ['ipFamilyMode: ipv6', /ipFamilyMode: expected dualstack or ipv4, got 'ipv6'/],
      ['a: [', /expected YAML: /],
      ['redirect: {dns: {enabled: true, captureAll: true, port: 0}}', /redirect\.dns\.port: expected a port from 1 to 65535, got '0'/],
      ['redirect: {dns: {enabled: false, port: 70000}}', /redirect\.dns\.port: .*got '70000'/],
      ['redirect: {inbound: {enabled: false, port: 0}}', /redirect\.inbound\.port: .*got '0'/], // the sidecar calls its own pod there
      ['redirect: {dns: {}}\nredirect: {}', /expected YAML: Map keys must be unique/],
      ['5678', /expected keys and values, got '5678'/],
    ]
    for (const [text, message] of wrong) {
      const answer = ask({ annotations: { [config]: text } })
      assert.ok('refused' in answer, text)
      assert.match(answer.warnings[0] ?? '', message, text)
      assert.ok(answer.warnings[0]?.startsWith(`annotation ${config}: `), answer.warnings[0])
      assert.equal(answer.warnings.length, 1, text)
    }
  })

  it('tells what only Merbridge cannot read apart from what Kuma refuses', () => {
    for (const [text, message] of [
      ['a: &a 1\nb: *a', /expected YAML without aliases \(\*name\); more is not read here/],
      [`kumaDPUser: "${'5'.repeat(17_000)}"`, /expected at most 16384 characters of YAML/],
      [`${'['.repeat(100)}${']'.repeat(100)}`, /expected YAML of at most 64 levels; more is not read here/],
      ['- '.repeat(8000), /expected YAML of at most 64 levels; more is not read here/],
      ['kumaDPUser: "4294967295"', /kumaDPUser: expected the id of a user, up to 4294967294/],
    ] as const) {
      const answer = ask({ annotations: { [config]: text } })
      assert.ok('cannot' in answer, text.slice(0, 20))
      assert.match(answer.cannot, message)
      assert.equal(answer.warnings.length, 1)
    }
  })

  it('has ports that no rule uses, and the words of YAML 1.1', () => {
    assert.deepEqual(summary({ annotations: { [config]: 'redirect: {dns: {enabled: false, port: 0}}' } }).ports, { outbound: 15001, inbound: 15006 })
    assert.deepEqual(
      summary({ annotations: { [config]: 'redirect: {inbound: {enabled: no, port: 0}, outbound: {enabled: off, port: 0}}' } }).ports,
      {},
    )
    assert.equal(summary({ annotations: { [config]: 'redirect: {dns: {enabled: yes, captureAll: on}}' } }).dns, true)
  })

  it('says once what Kuma does not know, and takes keys whatever their case', () => {
    const answer = ask(injected({ redirect: { INBOUND: { Port: 16006, prot: 1 } }, extra: true }))
    assert.ok('interception' in answer)
    assert.deepEqual(answer.interception.targets?.inbound, { port: 16006 })
    assert.deepEqual(answer.warnings, [`annotation ${config}: Kuma does not know redirect.inbound.prot, extra, and ignores it`])
  })

  it('turns inbound off with rules for users, as Kuma does', () => {
    const answer = ask(injected({ redirect: { inbound: { excludePortsForUIDs: ['80:1000'] } } }))
    assert.ok('interception' in answer)
    assert.deepEqual(answer.interception.inbound, [])
    assert.equal(answer.warnings.length, 1)
    assert.match(answer.warnings[0] ?? '', /redirect\.inbound\.excludePortsForUIDs: Kuma makes rules without users and ports of it/)
  })

  it('cannot follow traffic that the pod forwards', () => {
    for (const facts of [
      injected({ redirect: { vnet: { networks: ['docker0:172.17.0.0/16', 'br+:172.18.0.0/16'] } } }),
      withInit('--vnet=docker0:172.17.0.0/16'),
    ]) {
      const answer = ask(facts)
      assert.ok('cannot' in answer)
      assert.match(answer.cannot, /^traffic of the virtual networks docker0:172\.17\.0\.0\/16.*no socket of the pod sees them$/)
    }
  })
})

group('the flags of kuma-init', () => {
  it('say everything, in each way of writing them', () => {
    const none = { ports: { outbound: 15001, inbound: 15006 }, uid: [5678], excluded: [], inbound: true, six: true, dns: false }
    assert.deepEqual(summary(withInit('--kuma-dp-user=5678', '--verbose'), { captureDns: 'all', excludeInboundPorts: [7] }), none)
    const flags = [
      '--redirect-outbound-port',
      '16001',
      '--redirect-inbound-port=16006',
      '--exclude-inbound-ports=80,9001',
      '--ip-family-mode=ipv4',
      '--redirect-all-dns-traffic',
    ]
    assert.deepEqual(summary(withInit('install', 'transparent-proxy', ...flags)), {
      ...{ ports: { outbound: 16001, inbound: 16006, dns: 15053 }, uid: [5678], excluded: [80, 9001], inbound: true, six: false, dns: true },
    })
    assert.equal(summary(withInit('--redirect-inbound=false')).inbound, false)
    assert.equal(summary({ ...withInit('--redirect-inbound', '--redirect-dns', '--redirect-dns-port=53'), nameservers: ['10.0.0.1'] }).inbound, true)
  })

  it('leave everything to the defaults of the program where none decides, and no file is named', () => {
    const none = { ports: { outbound: 15001, inbound: 15006 }, uid: [5678], excluded: [], inbound: true, six: true, dns: false }
    assert.deepEqual(summary(withInit('--verbose'), { captureDns: 'all', excludeInboundPorts: [7], proxyPort: 1 }), none)
    for (const args of [[], ['--config-file', '/tmp/config.yaml'], ['--config=/tmp/config.yaml', '--verbose']])
      assert.deepEqual(summary(withInit(...args)), { ...none, ports: { ...none.ports, dns: 15053 }, excluded: [9001], dns: true })
  })

  it('of Kuma 2.8 and before are followed with their version, and told else', () => {
    const old = withInit(
      '--exclude-outbound-tcp-ports-for-uids',
      '22,80-90:7',
      '--exclude-outbound-udp-ports-for-uids=53:8',
      '--ipv6-enabled',
      'false',
    )
    for (const version of ['2.7', '2.9']) {
      const { outbound, sets = {} } = interceptionFor(old, { version })
      assert.deepEqual(
        outbound.slice(0, 3).map(({ when }) => [when?.proto, when?.family].join('')),
        ['ipv6', 'tcp', 'udp'],
      )
      assert.deepEqual([sets['excluded ports 1'], sets['excluded users 2']], [{ ports: [22, '80-90'] }, { uid: [8] }])
    }
    const answer = ask(old)
    assert.ok('interception' in answer)
    assert.ok(!answer.interception.outbound.some(({ name }) => name.startsWith('ports excluded')))
    assert.equal(answer.warnings.length, 2)
    assert.match(answer.warnings[0] ?? '', /^container kuma-init: --exclude-outbound-tcp-ports-for-uids: it is ignored: Kuma 2\.9 has removed it/)
    for (const [flag, six] of [
      ['--ipv6-enabled=true', true],
      ['--ipv6-enabled=false', false],
      ['--ipv6-enabled', true],
    ] as const)
      assert.equal(summary(withInit(flag)).six, six)
  })

  it('that ask for help write no rules', () => {
    for (const word of ['-h', '--help']) {
      const answer = ask(withInit('--redirect-dns', word))
      assert.ok('cannot' in answer)
      assert.match(answer.cannot, /^container kuma-init: -h or --help: it prints its help and writes no rules/)
    }
  })

  it('add up where they may be repeated', () => {
    const { sets = {}, outbound } = interceptionFor(
      withInit(
        '--exclude-outbound-ips=10.0.0.1',
        '--exclude-outbound-ips=fd00::/8,10.0.0.2',
        '--exclude-outbound-ports-for-uids=tcp:22:7',
        '--exclude-outbound-ports-for-uids=udp:53:7',
      ),
    )
    assert.deepEqual(sets['excluded destinations'], { cidrs: ['10.0.0.1/32', 'fd00::/8', '10.0.0.2/32'] })
    assert.equal(outbound.filter(({ name }) => name.startsWith('ports excluded')).length, 2)
  })

  it('leave the rest to the annotation where they only name a file', () => {
    const facts = {
      ...withInit('--config=/tmp/transparent-proxy/base/config.yaml', '--verbose'),
      ...injected({ redirect: { inbound: { port: 16006 } } }),
    }
    assert.equal(summary(facts).ports.inbound, 16006)
    assert.equal(
      summary({ ...withInit('--redirect-inbound-port=15006'), ...injected({ redirect: { inbound: { port: 16006 } } }) }).ports.inbound,
      15006,
    )
  })

  it('refuse what kuma-init would', () => {
    for (const [flags, message] of [
      [['--redirect-dns', '--redirect-all-dns-traffic'], /expected one of --redirect-dns and --redirect-all-dns-traffic, got both/],
      [['--redirect-inbound=perhaps'], /container kuma-init: --redirect-inbound: expected true or false, got 'perhaps'/],
      [['--exclude-inbound-ports=80-90'], /container kuma-init: --exclude-inbound-ports: .*got '80-90'/],
      [['--redirect-dns-port'], /--redirect-dns-port: expected a port from 1 to 65535, got ''/],
    ] as const) {
      const answer = ask(withInit(...flags))
      assert.ok('refused' in answer, JSON.stringify(answer))
      assert.match(answer.refused, message)
    }
  })
})
