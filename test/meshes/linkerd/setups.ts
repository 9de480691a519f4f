/** The set-ups of Linkerd. Its proxy listens outbound on loopback and inbound everywhere (`split`). Names begin with "v4" where there are no rules for IPv6. */
import type { MeshSetup } from '../../parity/mesh.ts'
import type { LinkerdOptions } from './reading.ts'

type Texts = Readonly<Record<string, string>>

const linkerd = (annotations: Texts = {}, options: LinkerdOptions = {}, env: Texts = {}) => ({
  pod: {
    annotations: Object.fromEntries(Object.entries(annotations).map(([name, value]) => [`config.linkerd.io/${name}`, value])),
    containers: [{ name: 'app' }, { name: 'linkerd-proxy', uid: 2102, env }],
  },
  options: { ...options },
})

const withInit = (args: readonly string[]) => ({
  pod: { containers: [{ name: 'linkerd-init', args }, { name: 'app' }, { name: 'linkerd-proxy', uid: 2102 }] },
  options: {},
})

const both: LinkerdOptions = { disableIPv6: false }
/** Services of the peer, from which it also calls, and not its own address. */
const services = '10.96.0.0/12,fd00:96::/32'

/** More than one rule of multiport holds, with the range over its border. */
const many = [...Array.from({ length: 13 }, (_, index) => 9000 + index), '31000-31010', 22].join()

const listed = [
  ...['--ipv6', '--incoming-proxy-port', '4143', '--outgoing-proxy-port=4140', '--proxy-uid', '2102', '--proxy-gid=2102'],
  ...['--inbound-ports-to-ignore', '4190,4191,15020', '--outbound-ports-to-ignore=443,8000-8999', '--ports-to-redirect', '80,8080,15020'],
  ...['--subnets-to-ignore', '10.97.0.10/32,0.0.0.0/1'],
]

export const linkerdSetups: readonly MeshSetup[] = [
  { name: 'v4 pod', kind: 'v4', mode: 'split', ...linkerd(), tcp: 'thorough', udp: { flavours: ['v4'], ports: 22_000 } },
  { name: 'v4 pod, group', kind: 'v4', mode: 'any', ...linkerd({ 'proxy-uid': '-1' }, { setup: 'cni', proxyGid: 2102 }), tcp: 'plain' },
  {
    name: 'v4 pod, lists',
    kind: 'v4',
    mode: 'dual',
    ...linkerd({ 'skip-inbound-ports': many, 'skip-outbound-ports': `0,${many}`, 'skip-subnets': services }),
    tcp: 'plain',
  },
  { name: 'v4 pod, all clients skipped', kind: 'v4', mode: 'split', ...linkerd({ 'skip-subnets': '0.0.0.0/0' }), tcp: 'plain' },
  { name: 'v4 pod, version 2.10', kind: 'v4', mode: 'split', ...linkerd({}, { version: '2.10' }), tcp: 'thorough' },
  { name: 'dual pod', kind: 'dual', mode: 'split', ...linkerd({}, both), tcp: 'thorough', udp: { flavours: ['v6', 'mapped'], ports: 23_000 } },
  { name: 'dual pod, subnets', kind: 'dual', mode: 'dual', ...linkerd({ 'skip-subnets': services }, both), tcp: 'plain' },
  { name: 'dual pod, arguments of linkerd-init', kind: 'dual', mode: 'split', ...withInit(listed), tcp: 'plain' },
  {
    name: 'dual pod, other ports',
    kind: 'dual',
    mode: 'both',
    ...linkerd({}, {}, { LINKERD2_PROXY_INBOUND_LISTEN_ADDR: '[::]:5143', LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS: '127.0.0.1:5140,[::1]:5140' }),
    tcp: 'plain',
  },
  { name: 'v4 rules in a dual pod', kind: 'dual', mode: 'split', ...linkerd(), tcp: 'plain' },
  { name: 'v6 pod', kind: 'v6', mode: 'split', ...linkerd({ 'skip-subnets': services }, both), tcp: 'plain' },
]
