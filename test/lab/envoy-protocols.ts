/** What a sidecar speaks beside HTTP/1.1 in plain text: HTTP/2 and WebSocket where the client does, TCP by port, TLS between sidecars by address. */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { must } from './process.ts'

/** PEM; one certificate for all sidecars, which is its own authority. */
export interface Identity {
  readonly certificate: string
  readonly key: string
}

export interface Protocols {
  /** Destination ports at which bytes are passed on as they are; all others are HTTP, of the version that the client speaks */
  readonly tcp: readonly number[]
  /** Destination addresses to which sidecars speak TLS with each other, both with a certificate */
  readonly mtls: Identity & { readonly addresses: readonly string[] }
}

const TYPES = 'type.googleapis.com/envoy.extensions'

/** Made anew for each site; good for a day. */
export async function createIdentity(directory: string): Promise<Identity> {
  await mkdir(directory, { recursive: true })
  const [certificate, key] = [join(directory, 'certificate.pem'), join(directory, 'key.pem')]
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-subj', '/CN=sidecar']
  const extensions = ['-addext', 'subjectAltName=DNS:sidecar.test', '-addext', 'keyUsage=critical,digitalSignature,keyCertSign']
  await must(['openssl', 'req', ...kind, ...extensions, '-keyout', key, '-out', certificate])
  return { certificate: await readFile(certificate, 'utf8'), key: await readFile(key, 'utf8') }
}

/** Of the route and of the connection manager */
export interface Http {
  readonly route: object
  readonly manager: object
}

/** Streams and upgrades last as long as they like. */
export const web: Http = {
  route: { timeout: '0s' },
  manager: { upgrade_configs: [{ upgrade_type: 'websocket' }], stream_idle_timeout: '0s' },
}

/** The sidecar calls with the version of HTTP with which it was called. */
export const upstreamProtocol = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': `${TYPES}.upstreams.http.v3.HttpProtocolOptions`,
      use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} },
    },
  },
}

export function tcpProxy(stat_prefix: string, cluster: string): object {
  return {
    name: 'envoy.filters.network.tcp_proxy',
    typed_config: { '@type': `${TYPES}.filters.network.tcp_proxy.v3.TcpProxy`, stat_prefix, cluster },
  }
}

const common = ({ certificate, key }: Identity) => ({
  tls_certificates: [{ certificate_chain: { inline_string: certificate }, private_key: { inline_string: key } }],
  validation_context: { trusted_ca: { inline_string: certificate } },
})

const tls = (side: 'Upstream' | 'Downstream', config: object) => ({
  transport_socket: {
    name: 'envoy.transport_sockets.tls',
    typed_config: { '@type': `${TYPES}.transport_sockets.tls.v3.${side}TlsContext`, ...config },
  },
})

/** Of the listener: only clients with the certificate are served. */
export const encrypted = (identity: Identity): object => tls('Downstream', { common_tls_context: common(identity), require_client_certificate: true })

/** Of the cluster: only servers with the certificate are called. */
export const trusted = (identity: Identity): object => tls('Upstream', { common_tls_context: common(identity), sni: 'sidecar.test' })
