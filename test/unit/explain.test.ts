/** What an operator asks explain, and what it says. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { explainText, questionOf } from '../../core/cli/explain.ts'
import type { CompiledPod } from '../../core/compile/compile.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { answer } from '../../core/explain/answer.ts'
import type { Listens } from '../../core/explain/outcome.ts'
import { parseQuestion } from '../../core/explain/question.ts'
import type { ExplainView } from '../../core/explain/view.ts'
import type { Interception } from '../../core/plugin.ts'
import { compileOne } from './pods.ts'
import { readerOf } from './reader.ts'

const interception: Interception = {
  sets: { proxy: { uid: [1337], gid: ['1337-1340'] }, skipped: { ports: [22, '8000-8999'] }, everybody: { uid: ['0-4294967295'] } },
  targets: { outbound: { port: 15001 }, inbound: { port: 15006 } },
  outbound: [
    { name: 'skipped', when: { port: 'skipped' }, then: 'pass' },
    { name: 'own pod', when: { from: 'proxy', to: 'pod' }, unless: { to: 'loopback' }, then: 'inbound' },
    { name: 'proxy', when: { from: 'proxy' }, then: 'pass' },
    { name: 'rest', then: 'outbound' },
  ],
  inbound: [{ name: 'all', when: { proto: 'tcp' }, then: 'inbound' }],
  proxy: { uid: 1337, gid: 1337 },
}

interface Setting {
  readonly interception?: Interception
  readonly options?: Parameters<typeof questionOf>[2]
  readonly listens?: Listens
  readonly anyErrno?: boolean
  /** What the agent has compiled; default: what is in the kernel */
  readonly compiled?: CompiledPod
}

function ask(words: readonly string[], setting: Setting = {}): ExplainView {
  const desired = compileOne(setting.interception ?? interception)
  const subject = { name: 'default/web', netns: 1n, addresses: ['10.9.0.2'], compiled: setting.compiled ?? desired.pods.get(1n) }
  const { listens = 'yes', anyErrno = true, options = {} } = setting
  return answer(parseQuestion(questionOf('web', words, options)), subject, { read: readerOf(desired), listens: () => listens, anyErrno })
}

function refused(words: readonly string[], message: RegExp, setting: Setting = {}): void {
  const check = (error: unknown) => {
    assert.ok(error instanceof MerbridgeError, String(error))
    assert.equal(error.code, 'USAGE')
    assert.match(`${error.message} | ${error.hint}`, message)
    return true
  }
  assert.throws(() => ask(words, setting), check, words.join(' '))
}

describe('explain', () => {
  it('says which rule decides, why the earlier ones do not, and what becomes of the connection', () => {
    const view = ask(['10.96.0.10:80'])
    assert.equal(view.rule?.name, 'rest')
    assert.equal(view.result, 'goes to 127.0.0.1:15001, with source 10.9.0.2')
    assert.deepEqual(
      view.earlier.map(({ name, failed }) => [name, ...failed.map(({ condition, actual }) => `${condition}: ${actual}`)]),
      [
        ['skipped', 'port skipped (22, 8000-8999): port 80'],
        ['own pod', 'from proxy (uid 1337, gid 1337-1340): uid 1000, gid 1000', "to pod: 10.96.0.10 is not the pod's own"],
        ['proxy', 'from proxy (uid 1337, gid 1337-1340): uid 1000, gid 1000'],
      ],
    )
    const text = explainText(view)
    assert.match(text, /^default\/web +10\.96\.0\.10:80\/tcp from the app\n/)
    assert.match(text, /decided by +outbound rule 3 'rest': outbound \(127\.0\.0\.1:15001 or \[::1\]:15001\)\n/)
    assert.match(text, /1 own pod +from proxy \(uid 1337, gid 1337-1340\) +uid 1000, gid 1000\n +to pod +10\.96\.0\.10 is not the pod's own\n/)
  })

  it('takes the ids of the proxy from the plugin, and says so', () => {
    const view = ask(['from-proxy', '10.9.0.2:80'])
    assert.deepEqual([view.rule?.name, view.to, view.connection.uid, view.connection.gid], ['own pod', '127.0.0.1:15006', 1337, 1337])
    assert.ok(view.assumed.includes("uid 1337, the proxy's"))
    assert.deepEqual(view.matched.at(-1), { condition: 'not to loopback', actual: '10.9.0.2' })
    const { proxy: _, ...silent } = interception
    refused(['from-proxy', '10.0.0.1:80'], /does not say who the pod's proxy is \| .*--uid N --gid N/, { interception: silent })
    const given = ask(['from-proxy', '10.0.0.1:80'], { interception: silent, options: { uid: '1337' } })
    assert.deepEqual([given.rule?.name, given.connection.gid], ['proxy', 1000])
  })

  it('takes an id for the app that no set names', () => {
    const taken: Interception = { ...interception, sets: { ...interception.sets, proxy: { uid: ['0-70000'], gid: [1000, 1001] } } }
    const view = ask(['10.0.0.1:80'], { interception: taken })
    assert.deepEqual([view.rule?.name, view.connection.uid, view.connection.gid], ['rest', 100_000, 2000])
    const rule = { name: 'anybody', when: { from: 'everybody' }, then: 'pass' }
    const all: Interception = { ...interception, outbound: [rule] }
    refused(['10.0.0.1:80'], /name every uid.*\| .*--uid N/, { interception: all })
    assert.equal(ask(['10.0.0.1:80'], { interception: all, options: { uid: '5' } }).rule?.name, 'anybody')
  })

  it('says how routing refuses', () => {
    assert.deepEqual([ask(['224.0.0.1:80']).verdict, ask(['224.0.0.1:80']).errno], ['refused', 'ENETUNREACH'])
    const passing = ask(['224.0.0.1:22'])
    assert.deepEqual([passing.verdict, passing.errno], ['pass', 'ENETUNREACH'])
    const bound = (anyErrno: boolean) => ask(['10.0.0.1:80'], { options: { source: '127.0.0.1' }, anyErrno }).errno
    assert.deepEqual([bound(true), bound(false)], ['EINVAL', 'EPERM'])
    const because = (to: string, source?: string) => ask([to], { options: source === undefined ? {} : { source } }).result
    assert.match(
      because('10.0.0.1:80', '127.0.0.1'),
      /^is refused: a loopback source \(127\.0\.0\.1\) cannot leave the pod; connect\(\) fails with EINVAL$/,
    )
    assert.match(because('10.0.0.1:22', '127.0.0.6'), /^is left as it is; but a loopback source \(127\.0\.0\.6\) cannot leave the pod, and connect/)
    assert.match(because('224.0.0.1:80'), /^is refused: routing has no way to 224\.0\.0\.1; /)
    assert.match(because('224.0.0.1:22'), /^is left as it is; but routing has no way to 224\.0\.0\.1, and connect\(\) fails with ENETUNREACH$/)
  })

  it('asks the rules about port 0, too', () => {
    const view = ask(['10.0.0.1:0'])
    assert.deepEqual([view.rule?.name, view.to, view.connection.to], ['rest', '127.0.0.1:15001', '10.0.0.1:0'])
    assert.doesNotMatch(view.notes.join(), /port 0/)
  })

  it('knows what is inbound and what is not', () => {
    const view = ask(['inbound', '10.9.0.2:80'])
    assert.deepEqual([view.rule?.name, view.to], ['all', 'port 15006'])
    assert.deepEqual(view.assumed, ['source 192.0.2.1, some address outside of the pod'])
    const nobody = ask(['inbound', '10.9.0.2:80'], { listens: 'no' })
    assert.deepEqual([nobody.verdict, nobody.reason, nobody.errno], ['refused', 'no listener', 'ECONNREFUSED'])
    refused(['inbound', '10.9.0.3:80'], /10\.9\.0\.3 is not an address of the pod.*\| Its addresses: 10\.9\.0\.2/)
    refused(['inbound', '127.0.0.1:80'], /nobody outside can connect to 127\.0\.0\.1/)
    refused(['inbound', '0.0.0.0:80'], /nobody outside can connect to 0\.0\.0\.0/)
    refused(['inbound', '10.9.0.2:80'], /10\.9\.0\.2 is the pod's own/, { options: { source: '10.9.0.2' } })
    refused(['inbound', '10.9.0.2:80'], /belong to connections that the pod makes/, { options: { uid: '0' } })
  })

  it('answers for IPv6, and for IPv4 on IPv6 sockets as for IPv4', () => {
    const six = ask(['[2001:db8::9]:80'], { options: { source: 'fd09::2' } })
    assert.deepEqual([six.connection.family, six.rule?.name, six.to, six.source], ['ipv6', 'rest', '[::1]:15001', 'fd09::2'])
    assert.match(explainText(six), /^default\/web +\[2001:db8::9\]:80\/tcp from the app \(fd09::2\)\n/)
    const own = ask(['from-proxy', '[fd09::2]:80'])
    assert.deepEqual([own.rule?.name, own.result], ['own pod', 'goes to [::1]:15006, with source fd09::2'])
    const mapped = ask(['[::ffff:10.96.0.10]:80'])
    assert.deepEqual([mapped.connection.to, mapped.connection.family, mapped.to], ['[::ffff:10.96.0.10]:80', 'ipv4', '127.0.0.1:15001'])
    assert.match(mapped.notes.join(), /::ffff:10\.96\.0\.10 is an IPv4 address on an IPv6 socket: it is decided as 10\.96\.0\.10/)
    assert.deepEqual(mapped.facts, ask(['10.96.0.10:80']).facts)
    const inbound = ask(['inbound', '[fd09::2]:80'])
    assert.deepEqual([inbound.rule?.name, inbound.connection.source], ['all', '2001:db8::1'])
    const four = ask(['inbound', '[fd09::2]:80'], { listens: 'other family' })
    assert.deepEqual([four.verdict, four.reason], ['refused', 'assign'])
    assert.match(four.result, /the proxy listens on port 15006, but not for IPv6/)
    assert.match(ask(['[2001:db8::9]:80'], { options: { source: 'fd09::2' }, listens: 'other family' }).notes.join(), /not for IPv6, on port 15001/)
  })

  it('reads the unspecified addresses as the kernel does', () => {
    const dest = (to: string, source?: string) => ask([to], { options: source === undefined ? {} : { source } }).notes[0]
    assert.equal(dest('0.0.0.0:80'), '0.0.0.0 is the pod itself: 127.0.0.1')
    assert.equal(dest('0.0.0.0:80', '10.9.0.2'), '0.0.0.0 is the pod itself: 10.9.0.2')
    assert.equal(dest('[::]:80'), ':: is the pod itself: ::1')
    assert.equal(dest('[::]:80', 'fd09::2'), ':: is the pod itself: ::1')
    assert.equal(dest('[::ffff:0.0.0.0]:80'), '::ffff:0.0.0.0 is the pod itself: 127.0.0.1')
    assert.equal(ask(['[::]:80'], { options: { source: '::ffff:10.9.0.2' } }).connection.family, 'ipv4')
    const bound = ask(['[::ffff:10.96.0.10]:80'], { options: { source: '[::]:4000' } })
    assert.deepEqual([bound.connection.family, bound.to], ['ipv4', '10.9.0.2:15001'])
  })

  it('refuses a family that the target lacks, and an IPv6 destination without a route', () => {
    const lacks: Interception = { ...interception, targets: { outbound: { port: 15001, ipv6: false }, inbound: { port: 15006 } } }
    const six = ask(['[2001:db8::9]:80'], { interception: lacks })
    assert.deepEqual([six.verdict, six.reason, six.errno], ['refused', 'no family', 'ECONNREFUSED'])
    assert.equal(six.rule?.then, 'outbound (127.0.0.1:15001, IPv6 is refused)')
    assert.deepEqual([ask(['[ff02::1]:80']).errno, ask(['[ff02::1]:80']).reason], ['ENETUNREACH', 'no route'])
  })

  it('says what becomes of datagrams', () => {
    const dns: Interception = {
      ...interception,
      targets: { ...interception.targets, dns: { port: 15053 } },
      outbound: [{ name: 'dns', when: { proto: 'udp' }, then: 'dns' }, ...interception.outbound],
    }
    const view = ask(['10.96.0.10:53/udp'], { interception: dns })
    assert.deepEqual([view.rule?.name, view.to, view.source], ['dns', '127.0.0.1:15053', '10.9.0.2'])
    assert.match(explainText(view), /the datagram goes to 127\.0\.0\.1:15053.*each further one an id \(127\.64\.0\.0\/10\) stands for the socket/s)
    assert.match(ask(['[fd09::53]:53/udp'], { interception: dns, options: { source: 'fd09::2' } }).notes.join(), /fd6d:6572:6272:6964::\/96/)
    assert.match(ask(['10.96.0.10:80/tcp'], { interception: dns }).earlier[0]?.failed[0]?.actual ?? '', /proto tcp/)
    const away: Interception = { ...dns, targets: { ...dns.targets, dns: { port: 53, ipv4: '10.96.7.7', ipv6: '2001:db8::7' } } }
    for (const [to, target] of [
      ['10.96.0.10:53/udp', '10.96.7.7'],
      ['[fd09::53]:53/udp', '2001:db8::7'],
    ] as const) {
      const notes = ask([to], { interception: away, options: to.startsWith('[') ? { source: 'fd09::2' } : {} }).notes.join()
      assert.match(
        notes,
        new RegExp(`${target} is outside of the pod, and a UDP socket may ask one server only through it: a second one gets EINVAL`),
      )
      assert.doesNotMatch(notes, /each further one/)
    }
    const bound = ask(['10.96.0.10:53/udp'], { interception: dns, options: { source: '0.0.0.0:4000' } })
    assert.deepEqual([bound.to, bound.source], ['127.0.0.1:15053', '10.9.0.2'])
    assert.match(bound.notes.join(), /a bound port cannot give it a source: the proxy sees loopback/)
    assert.match(ask(['10.96.0.10:0/udp'], { interception: dns }).notes.join(), /sendto\(\) fails with EINVAL before any rule is asked/)
    const drops: Interception = { ...dns, outbound: [{ name: 'none', when: { proto: 'udp' }, then: 'drop' }] }
    assert.deepEqual(
      [true, false].map((anyErrno) => ask(['10.0.0.1:53/udp'], { interception: drops, anyErrno }).errno),
      ['ECONNREFUSED', 'EPERM'],
    )
    const left: Interception = { ...dns, outbound: [{ name: 'DNS', when: { proto: 'udp', port: 'skipped' }, then: 'dns' }] }
    const broadcast = (to: string) =>
      /\.255 is taken for a broadcast .* without SO_BROADCAST gets EACCES/.test(ask([to], { interception: left }).notes.join())
    assert.deepEqual(['10.9.0.255:67/udp', '255.255.255.255:67/udp', '10.9.0.255:67', '10.9.0.255:22/udp', '10.9.0.9:67/udp'].map(broadcast), [
      true,
      true,
      false,
      false,
      false,
    ])
    assert.equal(
      ask(['224.0.0.1:5353/udp'], { interception: { ...drops, outbound: [...drops.outbound].map((rule) => ({ ...rule, then: 'pass' })) } }).errno,
      undefined,
    )
  })

  it('says when no rule is asked', () => {
    const tcpOnly: Interception = {
      ...interception,
      outbound: interception.outbound.map((rule) => ({ ...rule, when: { ...rule.when, proto: 'tcp' } })),
    }
    for (const [words, what] of [
      [['10.96.0.10:53/udp'], /the datagram passes as it is: the outbound rules of the pod do nothing with UDP but let it pass/],
      [['inbound', '[fd09::2]:53/udp'], /passes as it is: inbound rules see TCP only/],
    ] as const) {
      const view = ask(words, { interception: tcpOnly })
      assert.deepEqual([view.intercepted, view.verdict, view.rule], [false, 'pass', undefined])
      assert.match(explainText(view), what)
    }
  })

  it('explains a policy that it has not compiled by the bits alone', () => {
    const compiled = { policy: 5n, rules: [], words: new Map(), proxyPorts: [], loopback: { program: false, items: [] } }
    const view = ask(['10.96.0.10:80'], { compiled })
    assert.deepEqual([view.rule?.name, view.rule?.then, view.to], ['rule 3', '127.0.0.1:15001 or [::1]:15001', '127.0.0.1:15001'])
    assert.match(view.notes.join(), /names of the rules are not known/)
    assert.match(JSON.stringify(view.earlier[0]?.failed), /set 0 of the policy.*not in set 0/)
    assert.equal(view.earlier.length, 3)
  })

  it('refuses what is no question, and says what is wrong with it', () => {
    refused(['10.0.0.1'], /the port is missing/)
    refused(['::1:80'], /needs brackets/)
    refused(['10.0.0.1:65536'], /port 65536: expected a number from 0 to 65535/)
    for (const to of ['[fd96:7::1]', '[fd96:7::1]/udp', '[::ffff:10.0.0.1]']) refused([to], /: the port is missing \| Write ADDRESS:PORT/)
    refused(['fd96:7::1'], /needs brackets/)
    for (const source of ['::1', 'fd00::2', '[::1]:4000']) {
      const message =
        /a socket that is bound to (::1|fd00::2) is for IPv6 alone .* connect\(\) to ::ffff:10\.0\.0\.1 fails with ENETUNREACH.* \| .*::ffff:127\.0\.0\.6/
      refused(['[::ffff:10.0.0.1]:80'], message, { options: { source } })
    }
    refused(['10.0.0.1:'], /port : expected/)
    refused(['web:80'], /"web" is not an IP address.*an address, not a name/)
    refused(['[10.0.0.1]:80'], /is not an IP address/)
    refused(['300.0.0.1:80'], /is not an IP address/)
    refused(['10.0.0.1:80/sctp'], /protocol "sctp"/)
    refused(['[fe80::1%eth0]:80'], /"\[fe80::1%eth0\]" has a zone.*\| Leave "%eth0" out/)
    refused(['fe80::1%eth0:80'], /needs brackets/)
    refused(['10.0.0.1:80'], /has a zone/, { options: { source: 'fe80::1%eth0' } })
    refused(['[fd00::1]:80'], /different families/, { options: { source: '::ffff:10.0.0.1' } })
    refused(['from-somebody', '10.0.0.1:80'], /expected one of from-app, from-proxy, inbound/)
    refused(['from-app'], /expected POD/)
    refused(['from-app', '10.0.0.1:80', 'more'], /expected POD/)
    for (const uid of ['root', '-1', '4294967296', '1.5', '', '0x1'])
      refused(['10.0.0.1:80'], /--uid .*: expected a number from 0 to 4294967295/, { options: { uid } })
    refused(['10.0.0.1:80'], /--mark 0xfffffffff/, { options: { mark: '0xfffffffff' } })
    refused(['10.0.0.1:80'], /different families/, { options: { source: 'fd00::1' } })
    refused(['10.0.0.1:80'], /"eth0" is not an IP address/, { options: { source: 'eth0' } })
  })

  it('reads the socket as strictly as the command line', () => {
    const question = (query: string) => () => parseQuestion(new URLSearchParams(query))
    assert.throws(question('to=10.0.0.1:80'), /the pod is missing/)
    assert.throws(question('pod=web'), /the address is missing/)
    assert.throws(question('pod=web&to=10.0.0.1:80&colour=red'), /unknown parameter "colour"/)
    assert.throws(question('pod=web&pod=api&to=10.0.0.1:80'), /"pod" is given twice/)
    assert.throws(question(`pod=${'w'.repeat(601)}&to=10.0.0.1:80`), /longer than 600/)
    assert.throws(question('pod=web&to=%00%ff:80'), /is not an IP address/)
  })
})
