import type { Measured } from '../../parity/mesh.ts'

/** Rows of Linkerd's tables as they were measured elsewhere. */
export const linkerdMeasured: readonly Measured[] = [
  ['v4 pod: app -> VIP:80', 'accepted by', 'proxy:4140'],
  ['v4 pod: app -> VIP:80', 'accepted SO_ORIGINAL_DST 16', 'asked (16 bytes)'],
  ['v4 pod: app -> VIP:80', 'source seen', 'POD:eph'],
  ['v4 pod: app -> POD:8080', 'accepted by', 'app:8080'],
  ['v4 pod: proxy -> POD:8080', 'accepted by', 'app:8080'],
  ['v4 pod: proxy -> VIP:80', 'accepted by', 'peer:80'],
  ['v4 pod: peer => POD:8080', 'accepted by', 'proxy:4143'],
  ['v4 pod: peer => POD:8080', 'accepted SO_ORIGINAL_DST 16', 'asked (16 bytes)'],
  ['v4 pod: peer => POD:4143', 'accepted by', 'proxy:4143'],
  ['v4 pod: peer => POD:4143', 'accepted SO_ORIGINAL_DST 16', 'asked (16 bytes)'],
  ['v4 pod: peer => POD:4140', 'accepted by', 'proxy:4143'],
  ['v4 pod, version 2.10: proxy -> POD:8080', 'accepted by', 'proxy:4143'],
  ['dual pod: app -> VIP6:80', 'accepted by', 'proxy:4140'],
  ['dual pod: app -> VIP6:80', 'accepted SO_ORIGINAL_DST v6 28', 'asked (28 bytes)'],
  ['dual pod: app -> mapped VIP:80', 'accepted by', 'proxy:4140'],
  ['dual pod: app -> mapped VIP:80', 'accepted SO_ORIGINAL_DST 16', 'asked as IPv4 (16 bytes)'],
  ['dual pod: app -> POD6:8080', 'accepted by', 'app:8080'],
  ['dual pod: proxy -> POD6:8080', 'accepted by', 'app:8080'],
  ['dual pod: peer => POD6:8080', 'accepted by', 'proxy:4143'],
  ['v4 rules in a dual pod: app -> VIP6:80', 'accepted by', 'peer:80'],
]
