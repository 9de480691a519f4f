import { describe, it } from 'node:test'
import type { Interception } from '../../core/plugin.ts'
import { check, own, own6, pass, remote6 } from './width.ts'

describe('Linkerd', () => {
  const linkerd: Interception = {
    sets: {
      user: { uid: [2102] },
      group: { gid: [2102] },
      'skipped ports': { ports: [4567, '4568-4570'] },
      'inbound ports': { ports: [4190, 4191, '9000-9099', 0] },
      'skipped subnets': { cidrs: ['10.8.0.0/16', '0.0.0.0/1', 'fd08::/16'] },
    },
    targets: { outbound: { port: 4140 }, inbound: { port: 4143 } },
    outbound: [
      pass('user', { from: 'user' }),
      pass('group', { from: 'group' }),
      pass('local', { to: 'pod' }),
      pass('skipped ports', { proto: 'tcp', port: 'skipped ports' }),
      { name: 'all', when: { proto: 'tcp' }, then: 'outbound' },
    ],
    inbound: [
      pass('ports', { proto: 'tcp', port: 'inbound ports' }),
      pass('skipped subnets', { from: 'skipped subnets' }),
      { name: 'all', when: { proto: 'tcp' }, then: 'inbound' },
    ],
  }

  it('skips by user, group, loopback and port ranges; a subnet is a source and counts inbound only', () => {
    const inbound = { direction: 'inbound', to: own, port: 8080 } as const
    check(linkerd, [
      ['app', {}, '127.0.0.1:4140'],
      ['app, IPv6', { to: remote6 }, '[::1]:4140'],
      ['app, tcp/53', { port: 53 }, '127.0.0.1:4140'],
      ['app to a skipped subnet', { to: '10.8.0.1' }, '127.0.0.1:4140'],
      ['skipped range', { port: 4569 }, 'pass'],
      ['after the range', { port: 4571 }, '127.0.0.1:4140'],
      ['group', { gid: 2102 }, 'pass'],
      ['proxy to its own pod', { to: own, uid: 2102 }, 'pass'],
      ['app to its own pod', { to: own6 }, 'pass'],
      ['udp', { proto: 'udp', port: 53 }, 'pass'],
      ['inbound', { ...inbound, from: '192.168.0.1' }, '127.0.0.1:4143'],
      ['inbound to the inbound port', { ...inbound, port: 4143, from: '192.168.0.1' }, '127.0.0.1:4143'],
      ['inbound from a skipped subnet', { ...inbound, from: '10.8.255.255' }, 'pass'],
      ['inbound from the lower half of everything', { ...inbound, from: '127.255.255.254' }, 'pass'],
      ['inbound from the upper half', { ...inbound, from: '128.0.0.1' }, '127.0.0.1:4143'],
      ['inbound from a skipped subnet, IPv6', { ...inbound, to: own6, from: 'fd08::9' }, 'pass'],
      ['inbound, IPv6', { ...inbound, to: own6, from: 'fd0a::9' }, '[::1]:4143'],
      ['inbound to a range', { ...inbound, port: 9050, from: '192.168.0.1' }, 'pass'],
    ])
  })
})
