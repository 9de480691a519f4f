import { describe, it } from 'node:test'
import type { Interception, Rule } from '../../core/plugin.ts'
import { check, own, own6, pass, remote6 } from './width.ts'

describe('Kuma', () => {
  const proxy = { uid: 5678 }
  const kuma = (dns: readonly Rule[]): Interception => ({
    sets: {
      proxy: { uid: [5678] },
      'ports of rule 1': { ports: [22, '8000-8099'] },
      'users of rule 1': { uid: ['1000-1999'] },
      'ports of rule 2': { ports: ['*'] },
      'users of rule 2': { uid: [3000] },
      'excluded networks': { cidrs: ['203.0.113.0/24', '2001:db8:bad::/48'] },
      'excluded ports': { ports: [9999] },
      servers: { cidrs: ['10.96.0.10', 'fd00::a'] },
      domain: { ports: [53] },
      'excluded sources': { cidrs: ['10.8.0.0/16', 'fd08::/16'] },
      'excluded inbound ports': { ports: [9001, 9902] },
    },
    targets: { outbound: { port: 15001 }, inbound: { port: 15006 }, dns: { port: 15053 } },
    outbound: [
      pass('tcp ports for users 1000-1999', { proto: 'tcp', port: 'ports of rule 1', from: 'users of rule 1' }),
      pass('udp ports for user 3000', { proto: 'udp', port: 'ports of rule 2', from: 'users of rule 2' }),
      pass('excluded networks', { to: 'excluded networks' }),
      ...dns,
      pass('excluded port', { proto: 'tcp', port: 'excluded ports' }),
      pass('handed over', { from: 'passthrough', to: 'pod' }),
      { name: 'proxy calls its own pod', when: { proto: 'tcp', from: 'proxy', to: 'pod' }, unless: { to: 'loopback' }, then: 'inbound' },
      pass('stays in the pod', { proto: 'tcp', to: 'pod' }, { from: 'proxy' }),
      pass('proxy', { from: 'proxy' }),
      pass('localhost', { to: 'loopback' }),
      { name: 'all', when: { proto: 'tcp' }, then: 'outbound' },
    ],
    inbound: [
      pass('excluded sources', { from: 'excluded sources' }),
      pass('excluded ports', { proto: 'tcp', port: 'excluded inbound ports' }),
      { name: 'all', when: { proto: 'tcp' }, then: 'inbound' },
    ],
  })
  const current = [
    pass('dns of the proxy', { proto: 'udp', port: 'domain', from: 'proxy' }),
    { name: 'dns to the servers of resolv.conf', when: { proto: 'udp', port: 'domain', to: 'servers' }, then: 'dns' } as const,
    pass('dns over tcp', { proto: 'tcp', port: 'domain' }, { from: 'proxy' }),
  ]

  it('excludes ports for ranges of users, tcp and udp apart', () => {
    check(kuma(current), [
      ['first of the range', { uid: 1000, port: 8050 }, 'pass'],
      ['last of the range', { uid: 1999, port: 22 }, 'pass'],
      ['after the range', { uid: 2000, port: 22 }, '127.0.0.1:15001'],
      ['another port', { uid: 1000, port: 8100 }, '127.0.0.1:15001'],
      ['the tcp rule does not hold for udp', { uid: 3000, port: 22 }, '127.0.0.1:15001'],
      ['every udp port of user 3000, the captured one too', { proto: 'udp', uid: 3000, to: '10.96.0.10', port: 53 }, 'pass'],
      ['IPv6', { uid: 1500, port: 8000, to: remote6 }, 'pass'],
      ['IPv6, another port', { uid: 1500, port: 80, to: remote6 }, '[::1]:15001'],
    ])
  })

  it('captures DNS to the servers of resolv.conf, and excluded networks exempt it', () => {
    check(kuma(current), [
      ['udp to a server', { proto: 'udp', to: '10.96.0.10', port: 53 }, '127.0.0.1:15053'],
      ['udp to a server over IPv6', { proto: 'udp', to: 'fd00::a', port: 53 }, '[::1]:15053'],
      ['udp to another server', { proto: 'udp', to: '8.8.8.8', port: 53 }, 'pass'],
      ['udp of the proxy', { proto: 'udp', to: '10.96.0.10', port: 53, ...proxy }, 'pass'],
      ['udp to an excluded network', { proto: 'udp', to: '203.0.113.53', port: 53 }, 'pass'],
      ['tcp is not captured', { to: '10.96.0.10', port: 53 }, 'pass'],
      ['tcp of the proxy to its own pod', { to: own, port: 53, ...proxy }, '127.0.0.1:15006'],
    ])
    const old = { name: 'dns over tcp', when: { proto: 'tcp', port: 'domain', to: 'servers' }, unless: { from: 'proxy' }, then: 'dns' } as const
    check(kuma([...current.slice(0, 2), old]), [
      ['2.9 captures tcp too', { to: '10.96.0.10', port: 53 }, '127.0.0.1:15053'],
      ['2.9, mapped address', { to: '::ffff:10.96.0.10', port: 53 }, '127.0.0.1:15053'],
      ['2.9, another server goes to the proxy', { to: '8.8.8.8', port: 53 }, '127.0.0.1:15001'],
    ])
  })

  it('keeps the order of the rules around loopback', () => {
    check(kuma(current), [
      ['proxy to its own pod', { to: own, port: 8080, ...proxy }, '127.0.0.1:15006'],
      ['proxy to its own pod over IPv6', { to: own6, port: 8080, ...proxy }, '[::1]:15006'],
      ['proxy from 127.0.0.6', { to: own, port: 8080, from: '127.0.0.6', ...proxy }, 'pass'],
      ['proxy from ::6', { to: own6, port: 8080, from: '::6', ...proxy }, 'pass'],
      ['proxy to 127.0.0.5', { to: '127.0.0.5', port: 8080, ...proxy }, '127.0.0.1:15006'],
      ['proxy to 127.0.0.1', { to: '127.0.0.1', port: 8080, ...proxy }, 'pass'],
      ['proxy to ::1', { to: '::1', port: 8080, ...proxy }, 'pass'],
      ['an excluded port beats the loopback rules', { to: own, port: 9999, ...proxy }, 'pass'],
      ['app to its own pod', { to: own, port: 8080 }, 'pass'],
      ['a group does not make a proxy', { gid: 5678 }, '127.0.0.1:15001'],
      ['kuma-validation: 127.0.0.1 to 127.0.0.6', { to: '127.0.0.6', port: 40000, from: '127.0.0.1', ...proxy }, '127.0.0.1:15006'],
    ])
  })

  it('excludes inbound by source, both families', () => {
    const inbound = { direction: 'inbound', to: own, port: 8080 } as const
    const inbound6 = { ...inbound, to: own6 }
    check(kuma(current), [
      ['another source', { ...inbound, from: '10.9.0.9' }, '127.0.0.1:15006'],
      ['excluded source', { ...inbound, from: '10.8.1.1' }, 'pass'],
      ['excluded source, IPv6', { ...inbound6, from: 'fd08::1' }, 'pass'],
      ['another source, IPv6', { ...inbound6, from: 'fd07::1' }, '[::1]:15006'],
      ['excluded port', { ...inbound, from: '10.9.0.9', port: 9001 }, 'pass'],
      ['port of the outbound listener', { ...inbound, from: '10.9.0.9', port: 15001 }, '127.0.0.1:15006'],
    ])
  })
})
