import type { Measured } from '../../parity/mesh.ts'

/** What Kuma's rules were measured to do elsewhere: a probe that is wrong in both columns does not pass these. */
export const kumaMeasured: readonly Measured[] = [
  ['IPv4 pod, two listeners: app -> VIP:80', 'accepted by', 'proxy:15001'],
  ['IPv4 pod, two listeners: app -> VIP:80', 'source seen', 'POD:eph'],
  ['IPv4 pod, two listeners: app -> POD:8080', 'accepted by', 'app:8080'],
  ['IPv4 pod, two listeners: app -> 127.0.0.1:8080', 'accepted by', 'app:8080'],
  ['IPv4 pod, two listeners: proxy -> VIP:80', 'accepted by', 'peer:80'],
  ['IPv4 pod, two listeners: proxy -> POD:8080', 'accepted by', 'proxy:15006'],
  ['IPv4 pod, two listeners: proxy -> POD:8080 from 127.0.0.6', 'accepted by', 'app:8080'],
  ['IPv4 pod, two listeners: proxy -> 127.0.0.1:8080', 'accepted by', 'app:8080'],
  ['IPv4 pod, two listeners: peer => POD:8080', 'accepted by', 'proxy:15006'],
  ['dual pod, two listeners: app -> VIP6:80', 'accepted by', 'proxy:15001'],
  ['dual pod, two listeners: app -> mapped VIP:80', 'accepted by', 'proxy:15001'],
  ['dual pod, two listeners: proxy -> POD6:8080', 'accepted by', 'proxy:15006'],
  ['dual pod, two listeners: proxy -> POD6:8080 from ::6', 'accepted by', 'app:8080'],
  ['dual pod, two listeners: peer => POD6:8080', 'accepted by', 'proxy:15006'],
  ['dual pod, DNS: app -> VIP6:53', 'accepted by', 'peer:53'],
  ['dual pod, DNS: udp app -> v4 connected', "4 recv q1 answer's source", 'VIP:53'],
  ['dual pod, DNS: udp app -> v4 connected', '2 names peer', 'VIP:53'],
  ['dual pod, DNS: udp app -> v4 127.0.0.53:53 unconnected', '2 recv q1 answered by', 'dns:15053'],
  ['dual pod, DNS: udp proxy -> v4 VIP:53 unconnected', '2 recv q1 answered by', 'peer:53'],
  ['version 2.9, DNS: app -> VIP6:53', 'accepted by', 'dns:15053'],
  ['version 2.7, inbound of IPv6: peer => POD6:8080', 'accepted by', 'proxy:15010'],
  ['v4 rules, dual pod: app -> VIP6:80', 'accepted by', 'peer:80'],
  ['gateway: peer => POD6:8080', 'accepted by', 'app:8080'],
]
