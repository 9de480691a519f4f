/** Where the programs listen. */
export const ports = {
  nginx: 8081,
  nginxNoSendfile: 8082,
  nginxProxy: 8083,
  nginxHttp2: 8084,
  haproxySplice: 8091,
  haproxyPlain: 8092,
  haproxyTcp: 8093,
  node: 8101,
  nodePipe: 8102,
  go: 8111,
  goProxy: 8112,
  java: 8121,
  webSocket: 8131,
  grpc: 8141,
  redis: 6379,
  redisGoProxy: 6380,
  postgresql: 5432,
  iperf3: 5201,
} as const

/** Sidecars pass these on without a look at the bytes. */
export const TCP_PORTS: readonly number[] = [ports.redis, ports.redisGoProxy, ports.postgresql, ports.iperf3]
