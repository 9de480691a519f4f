/** Envoy's bootstrap for a sidecar, in Istio's port layout (15001 outbound, 15006 inbound, 15000 admin) unless another mesh's is given. */
import { encrypted, type Http, type Protocols, tcpProxy, trusted, upstreamProtocol, web } from './envoy-protocols.ts'

export const PROXY_UID = 1337
export const OUTBOUND_PORT = 15001
export const INBOUND_PORT = 15006
export const ADMIN_PORT = 15000

/** What meshes with Envoy do in different ways. */
export interface EnvoyLayout {
  /** User and group that it runs as */
  readonly uid: number
  readonly outbound: number
  readonly inbound: number
  readonly admin: number
  /**
   * Where the inbound side calls the app. 'passthrough': at the destination that the client asked for, from 127.0.0.6 or ::6, by which the rules know that
   * the connection has passed the sidecar already (Istio's InboundPassthroughCluster); a port: at 127.0.0.1.
   */
  readonly app: 'passthrough' | number
  /** Ports whose connections are carried as they are, bytes of no protocol */
  readonly bytes?: readonly number[]
}

export const istioLayout: EnvoyLayout = {
  uid: PROXY_UID,
  outbound: OUTBOUND_PORT,
  inbound: INBOUND_PORT,
  admin: ADMIN_PORT,
  app: 'passthrough',
}

const TYPES = 'type.googleapis.com/envoy.extensions'

type Direction = 'outbound' | 'inbound'

/**
 * Where the proxy listens: on 0.0.0.0; on [::] for IPv6 alone; on [::] for both, where IPv4 clients have mapped addresses; or on a socket for each,
 * as Istio does it in pods with both families.
 */
export type Listening = 'v4' | 'v6' | 'dual' | 'each'

/**
 * `name` is what the sidecar calls itself in the headers that it adds. Without `protocols` everything is HTTP/1.1 in plain text.
 */
export function sidecarBootstrap(name: string, listening: Listening = 'v4', layout: EnvoyLayout = istioLayout, protocols?: Protocols): object {
  const inbound = layout.app === 'passthrough' ? { ...original('inbound'), upstream_bind_config: passedSource } : local(layout.app)
  const clusters = [original('outbound'), inbound]
  return {
    node: { id: name, cluster: name },
    admin: { address: address('127.0.0.1', layout.admin) },
    static_resources: {
      listeners: [listener(name, 'outbound', listening, layout, protocols), listener(name, 'inbound', listening, layout, protocols)],
      clusters:
        protocols === undefined
          ? clusters
          : [...clusters, { ...original('outbound-mtls'), ...trusted(protocols.mtls) }].map((each) => ({ ...each, ...upstreamProtocol })),
    },
  }
}

/** Takes the connection's original destination from SO_ORIGINAL_DST. */
function listener(name: string, direction: Direction, listening: Listening, layout: EnvoyLayout, protocols?: Protocols): object {
  const [first, ...others] = addresses(listening, layout[direction])
  return {
    name: direction,
    address: first,
    ...(others.length > 0 && { additional_addresses: others.map((each) => ({ address: each })) }),
    traffic_direction: direction.toUpperCase(),
    listener_filters: [
      { name: 'envoy.filters.listener.original_dst', typed_config: { '@type': `${TYPES}.filters.listener.original_dst.v3.OriginalDst` } },
    ],
    filter_chains: protocols === undefined ? plainChains(name, direction, layout) : chains(name, direction, protocols),
  }
}

function plainChains(name: string, direction: Direction, { bytes = [] }: EnvoyLayout): object[] {
  const carried = bytes.map((port) => ({ filter_chain_match: { destination_port: port }, filters: [tcpProxy(direction, direction)] }))
  return [...carried, { filters: [http(name, direction)] }]
}

/** By what the client asked for: ports whose bytes are only passed on, and addresses to which sidecars speak TLS. */
function chains(name: string, direction: Direction, { tcp, mtls }: Protocols): object[] {
  return [false, true].flatMap((secure) => {
    const cluster = secure && direction === 'outbound' ? 'outbound-mtls' : direction
    const transport = secure && direction === 'inbound' ? encrypted(mtls) : {}
    const addresses = secure ? { prefix_ranges: mtls.addresses.map((each) => ({ address_prefix: each, prefix_len: 32 })) } : {}
    return [
      { filter_chain_match: addresses, filters: [http(name, direction, cluster, web)], ...transport },
      ...tcp.map((destination_port) => ({
        filter_chain_match: { ...addresses, destination_port },
        filters: [tcpProxy(direction, cluster)],
        ...transport,
      })),
    ]
  })
}

function addresses(listening: Listening, port: number): object[] {
  const v6 = { socket_address: { address: '::', port_value: port, ipv4_compat: listening === 'dual' } }
  const v4 = address('0.0.0.0', port)
  return { v4: [v4], v6: [v6], dual: [v6], each: [v4, v6] }[listening]
}

function http(
  name: string,
  direction: Direction,
  cluster: string = direction,
  { route, manager }: Http = { route: { timeout: '10s' }, manager: {} },
): object {
  const config = {
    '@type': `${TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: direction,
    generate_request_id: false,
    ...manager,
    http_filters: [{ name: 'envoy.filters.http.router', typed_config: { '@type': `${TYPES}.filters.http.router.v3.Router` } }],
    route_config: {
      virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster, ...route } }] }],
      response_headers_to_add: [
        header(`x-${direction}-sidecar`, name),
        header(`x-${direction}-source`, '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'),
        header(`x-${direction}-destination`, '%DOWNSTREAM_LOCAL_ADDRESS%'),
      ],
    },
  }
  return { name: 'envoy.filters.network.http_connection_manager', typed_config: config }
}

function header(key: string, value: string): object {
  return { header: { key, value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }
}

/** Connects to the destination that the client asked for. */
function original(name: Direction | 'outbound-mtls'): object {
  return { name, type: 'ORIGINAL_DST', lb_policy: 'CLUSTER_PROVIDED', connect_timeout: '5s', cleanup_interval: '60s' }
}

/** Connects to the app of its own pod. */
function local(port: number): object {
  const endpoint = { endpoint: { address: address('127.0.0.1', port) } }
  const load_assignment = { cluster_name: 'inbound', endpoints: [{ lb_endpoints: [endpoint] }] }
  return { name: 'inbound', type: 'STATIC', connect_timeout: '5s', load_assignment }
}

const passedSource = {
  source_address: { address: '127.0.0.6', port_value: 0 },
  extra_source_addresses: [{ address: { address: '::6', port_value: 0 } }],
}

function address(host: string, port: number): object {
  return { socket_address: { address: host, port_value: port } }
}
