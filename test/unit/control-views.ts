/** What an agent might answer. */
import type { AccelerateView, AccelerationView, TrafficView } from '../../core/acceleration/view.ts'
import type { InForceView } from '../../core/control/api.ts'
import type { ExplainView } from '../../core/explain/view.ts'
import type { PodView, StatusView } from '../../core/views.ts'

const traffic: TrafficView = {
  connections: { joined: 5, accelerating: 3 },
  accelerated: { messages: 750, bytes: 3_145_728, connections: 9 },
  tcp: { messages: 250, bytes: 1024, connections: 2 },
  reasons: [
    { reason: 'not read', sentence: 'the receiver was not seen reading yet', messages: 200, bytes: 1000, connections: 2 },
    { reason: 'order', sentence: 'bytes that went by TCP were unread', messages: 50, bytes: 24, connections: 0 },
  ],
}

export const accelerationView: AccelerationView = {
  at: 1000,
  node: { mode: 'proxies', budget: 4_194_304, on: true, off: [], kernel: { can: true }, halted: ['default/web'], ...traffic },
  pods: [
    { pod: 'default/web', mode: 'none', why: 'merbridge accelerate off was said for this pod', on: false, off: ['its mode is none'], ...traffic },
  ],
}

export const accelerateView: AccelerateView = { pod: 'default/web', switch: 'off', changed: true, accelerating: false, overrides: [] }

export const statusView: StatusView = {
  agent: { version: '0.1.0', pid: 42, startedAt: new Date(Date.now() - 3_900_000).toISOString(), ready: false, notReady: ['the config is refused'] },
  config: {
    path: '/etc/merbridge/config.yaml',
    generation: 7,
    lastReload: { at: new Date(Date.now() - 120_000).toISOString(), outcome: 'refused', reason: 'config.yaml:3:1: unknown key "optoins"' },
    reloads: { applied: 3, unchanged: 1, refused: 2 },
    meshes: [
      { entry: 'meshes[0]', mesh: 'istio', pods: 3 },
      { entry: 'meshes[1]', mesh: 'acme', pods: 0 },
    ],
    warnings: ['line 9: meshes[1].match matches no pod: this config lists 3, and none has such labels'],
  },
  kernel: { release: '6.18.0', features: [{ id: 'sockops_netns_cookie', name: 'netns cookie in sock_ops', state: 'yes', detail: 'Linux 5.15' }] },
  attachments: [
    {
      hook: 'connect4',
      at: '/sys/fs/cgroup',
      programs: [
        { id: 3, name: 'theirs', ours: false },
        { id: 5, name: 'mb_connect4', ours: true },
      ],
    },
  ],
  pods: { listed: 3, enrolled: 1, waiting: 1, failed: 1, warnings: 1, iptables: ['default/web'] },
  maps: [
    { name: 'pods', entries: 1, capacity: 1024 },
    { name: 'cidr_sets', entries: 900, capacity: 1000 },
  ],
  decisions: { outbound: { tcp4: 9, tcp6: 3, udp4: 40 }, inbound: { tcp4: 4 } },
  refusals: [{ reason: 'no_listener', count: 12, by: { tcp4: 12 } }],
  acceleration: accelerationView.node,
}

export const podView: PodView = {
  name: 'web',
  namespace: 'default',
  mesh: 'istio',
  selection: { entry: 'meshes[0]', why: 'match', also: ['meshes[1] (acme)'] },
  netns: '/run/netns/web',
  state: 'enrolled',
  addresses: ['10.0.0.2'],
  policy: '00000000000000ff',
  warnings: ['annotation x is ignored'],
  iptables: false,
  listeners: ['127.0.0.1:15001 (uid 1337)'],
  loopback: ['program mb_lo (link)', '::6, added'],
  rules: [
    { direction: 'inbound', index: 0, name: 'all', condition: 'proto tcp', then: 'inbound (port 15006)', hits: 4, by: { tcp4: 4 } },
    {
      direction: 'outbound',
      index: 1,
      name: 'everything else',
      condition: '',
      then: 'outbound (127.0.0.1:15001)',
      hits: 9,
      by: { tcp4: 2, udp6: 7 },
    },
    { direction: 'outbound', index: 0, name: 'skipped port', condition: 'port skipped', then: 'pass', hits: 2, by: { tcp4: 2 } },
  ],
  refusals: [{ reason: 'no_listener', count: 12, by: { tcp4: 5, tcp6: 7 } }],
  acceleration: { mode: 'proxies', why: 'acceleration.mode of the config', on: true, off: [], ...traffic },
}

export const podViews: readonly PodView[] = [
  podView,
  {
    ...podView,
    name: 'api',
    namespace: 'shop',
    state: 'waiting',
    reason: 'its network namespace /run/netns/api does not exist (yet)',
    addresses: [],
  },
  { ...podView, name: 'old', namespace: 'shop', state: 'failed', reason: 'too many \u001b[31mports', warnings: [] },
]

export const explainView: ExplainView = {
  pod: 'default/web',
  connection: { who: 'from-app', protocol: 'tcp', family: 'ipv4', to: '10.96.0.10:80', uid: 1000, gid: 1000, mark: 0 },
  assumed: ["uid 1000, which no set of the pod's rules names"],
  intercepted: true,
  policy: '00000000000000ff',
  rule: { direction: 'outbound', index: 1, name: 'everything else', condition: 'proto tcp', then: 'outbound (127.0.0.1:15001)' },
  matched: [{ condition: 'proto tcp', actual: 'proto tcp' }],
  earlier: [
    {
      direction: 'outbound',
      index: 0,
      name: 'skipped port',
      condition: 'port skipped (22)',
      then: 'pass',
      failed: [{ condition: 'port skipped (22)', actual: 'port 80' }],
    },
  ],
  facts: ['proto tcp'],
  verdict: 'redirect',
  result: 'goes to 127.0.0.1:15001, with source 10.0.0.2',
  to: '127.0.0.1:15001',
  source: '10.0.0.2',
  notes: [],
}

export const inForce: InForceView = {
  path: '/etc/merbridge/config.yaml',
  stateDir: '/var/lib/merbridge',
  attach: { cgroup: 'auto', bpffs: '/sys/fs/bpf/merbridge', identity: 'auto', btf: 'auto', without: [] },
  control: { socket: '/run/merbridge/agent.sock' },
}
