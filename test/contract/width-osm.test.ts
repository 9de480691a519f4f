import { describe, it } from 'node:test'
import type { Interception } from '../../core/plugin.ts'
import { check, own, own6, pass, remote6 } from './width.ts'

describe('OSM', () => {
  const osm: Interception = {
    sets: {
      proxy: { uid: [1500] },
      'dns proxy': { cidrs: ['127.0.0.153'] },
      domain: { ports: [53] },
      'excluded networks': { cidrs: ['203.0.113.0/24'] },
      'excluded ports': { ports: [6379, 9999] },
      'included networks': { cidrs: ['192.0.2.0/24'] },
      'excluded inbound ports': { ports: [7777] },
      'own ports': { ports: [15010, '15901-15904'] },
    },
    targets: {
      outbound: { port: 15003 - 2, ipv6: false },
      inbound: { port: 15003, ipv6: false },
      pod: { ipv4: own, ipv6: false },
      dns: { ipv4: '127.0.0.153', port: 5300, ipv6: false },
    },
    outbound: [
      pass('IPv6 has no rules', { family: 'ipv6' }),
      { name: 'localhost of the proxy is the pod', when: { proto: 'tcp', from: 'proxy', to: ['pod', 'loopback'] }, then: 'pod' },
      { name: 'dns', when: { proto: 'udp', to: 'dns proxy', port: 'domain' }, then: 'dns' },
      { name: 'proxy calls its own pod', when: { proto: 'tcp', from: 'proxy', to: 'pod' }, unless: { to: 'loopback' }, then: 'inbound' },
      pass('local', { to: 'pod' }, { from: 'proxy' }),
      pass('proxy', { from: 'proxy' }),
      pass('localhost', { to: 'loopback' }),
      pass('excluded networks', { to: 'excluded networks' }),
      pass('excluded ports', { port: 'excluded ports' }),
      { name: 'included', when: { proto: 'tcp', to: 'included networks' }, then: 'outbound' },
    ],
    inbound: [
      pass('IPv6 has no rules', { family: 'ipv6' }),
      pass('excluded ports', { port: 'excluded inbound ports' }),
      pass('own ports', { port: 'own ports' }),
      { name: 'all', when: { proto: 'tcp' }, then: 'inbound' },
    ],
  }
  const proxy = { uid: 1500 }

  it('in PodIP mode turns 127.0.0.1 of the proxy, and only of the proxy, into the pod, the port kept', () => {
    check(osm, [
      ['proxy to 127.0.0.1', { to: '127.0.0.1', port: 8080, ...proxy }, `${own}:8080`],
      ['app to 127.0.0.1', { to: '127.0.0.1', port: 8080 }, 'pass'],
      ['it comes before the excluded ports', { to: '127.0.0.1', port: 9999, ...proxy }, `${own}:9999`],
      ['proxy to 127.0.0.5', { to: '127.0.0.5', port: 8080, ...proxy }, '127.0.0.1:15003'],
      ['proxy to the pod', { to: own, port: 8080, ...proxy }, '127.0.0.1:15003'],
      ['127.0.0.6 is nothing special', { to: own, port: 8080, from: '127.0.0.6', ...proxy }, '127.0.0.1:15003'],
      ['an excluded port loses to the loopback rules', { to: own, port: 9999, ...proxy }, '127.0.0.1:15003'],
    ])
  })

  it('excludes after loopback and owner, includes by network, leaves IPv6 alone', () => {
    check(osm, [
      ['included', {}, '127.0.0.1:15001'],
      ['included, mapped', { to: '::ffff:192.0.2.9' }, '127.0.0.1:15001'],
      ['excluded port', { port: 9999 }, 'pass'],
      ['not included', { to: '198.51.100.1' }, 'pass'],
      ['proxy', { ...proxy }, 'pass'],
      ['IPv6', { to: remote6 }, 'pass'],
      ['inbound', { direction: 'inbound', to: own, from: '10.9.0.9' }, '127.0.0.1:15003'],
      ['inbound, probe', { direction: 'inbound', to: own, from: '10.9.0.9', port: 15902 }, 'pass'],
      ['inbound, admin port', { direction: 'inbound', to: own, from: '10.9.0.9', port: 15000 }, '127.0.0.1:15003'],
      ['inbound, IPv6', { direction: 'inbound', to: own6, from: 'fd09::9' }, 'pass'],
    ])
  })

  it('sends DNS of osm-edge from 127.0.0.153:53 to port 5300 of the same address', () => {
    check(osm, [
      ['captured', { proto: 'udp', to: '127.0.0.153', port: 53 }, '127.0.0.153:5300'],
      ['of the proxy too', { proto: 'udp', to: '127.0.0.153', port: 53, ...proxy }, '127.0.0.153:5300'],
      ['another address', { proto: 'udp', to: '127.0.0.1', port: 53 }, 'pass'],
      ['tcp', { to: '127.0.0.153', port: 53 }, 'pass'],
    ])
  })
})
