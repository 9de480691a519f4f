/** Envoy's bootstrap for a sidecar in Istio's port layout: 15001 outbound, 15006 inbound, 15000 admin. */

export const PROXY_UID = 1337
export const OUTBOUND_PORT = 15001
export const INBOUND_PORT = 15006
export const ADMIN_PORT = 15000

const TYPES = 'type.googleapis.com/envoy.extensions'

type Direction = 'outbound' | 'inbound'

/** `name` is what the sidecar calls itself in the headers that it adds. */
export function sidecarBootstrap(name: string): object {
  return {
    node: { id: name, cluster: name },
    admin: { address: address('127.0.0.1', ADMIN_PORT) },
    static_resources: {
      listeners: [listener(name, 'outbound', OUTBOUND_PORT), listener(name, 'inbound', INBOUND_PORT)],
      clusters: [cluster('outbound'), cluster('inbound')],
    },
  }
}

/** Takes the connection's original destination from SO_ORIGINAL_DST. */
function listener(name: string, direction: Direction, port: number): object {
  return {
    name: direction,
    address: address('0.0.0.0', port),
    traffic_direction: direction.toUpperCase(),
    listener_filters: [
      { name: 'envoy.filters.listener.original_dst', typed_config: { '@type': `${TYPES}.filters.listener.original_dst.v3.OriginalDst` } },
    ],
    filter_chains: [{ filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: connectionManager(name, direction) }] }],
  }
}

function connectionManager(name: string, direction: Direction): object {
  return {
    '@type': `${TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: direction,
    generate_request_id: false,
    http_filters: [{ name: 'envoy.filters.http.router', typed_config: { '@type': `${TYPES}.filters.http.router.v3.Router` } }],
    route_config: {
      virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: direction, timeout: '10s' } }] }],
      response_headers_to_add: [
        header(`x-${direction}-sidecar`, name),
        header(`x-${direction}-source`, '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'),
        header(`x-${direction}-destination`, '%DOWNSTREAM_LOCAL_ADDRESS%'),
      ],
    },
  }
}

function header(key: string, value: string): object {
  return { header: { key, value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }
}

/**
 * Connects to the destination that the client asked for. The inbound one does so from 127.0.0.6, by which the rules know that the connection has
 * passed the sidecar already (Istio's InboundPassthroughCluster).
 */
function cluster(direction: Direction): object {
  return {
    name: direction,
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    connect_timeout: '5s',
    cleanup_interval: '60s',
    ...(direction === 'inbound' && { upstream_bind_config: { source_address: { address: '127.0.0.6', port_value: 0 } } }),
  }
}

function address(host: string, port: number): object {
  return { socket_address: { address: host, port_value: port } }
}
