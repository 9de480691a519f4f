import { describe, it } from 'node:test'
import type { Interception } from '../../core/plugin.ts'
import { check, own, own6, pass, remote6 } from './width.ts'

describe('Istio ambient', () => {
  const ambient: Interception = {
    sets: {
      ztunnel: { mark: [{ value: 0x539, mask: 0xfff }] },
      returning: { mark: [{ value: 0x111, mask: 0xfff }] },
      probes: { cidrs: ['169.254.7.127', 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff'] },
      domain: { ports: [53] },
      tunnel: { ports: [15008] },
    },
    targets: { outbound: { port: 15001 }, inbound: { port: 15006 }, dns: { port: 15053 } },
    outbound: [
      pass('probe', { proto: 'tcp', to: 'probes' }),
      { name: 'dns over udp', when: { proto: 'udp', port: 'domain' }, unless: { to: 'pod', from: 'ztunnel' }, then: 'dns' },
      { name: 'dns over tcp', when: { proto: 'tcp', port: 'domain' }, unless: { to: 'loopback', from: 'ztunnel' }, then: 'dns' },
      pass('returning', { proto: 'tcp', from: 'returning' }),
      pass('stays in the pod', { to: 'pod' }, { to: 'loopback' }),
      { name: 'all', when: { proto: 'tcp' }, unless: { to: 'loopback', from: 'ztunnel' }, then: 'outbound' },
    ],
    inbound: [
      pass('probe', { proto: 'tcp', from: 'probes' }),
      { name: 'all', when: { proto: 'tcp' }, unless: { to: 'loopback', port: 'tunnel' }, then: 'inbound' },
    ],
  }

  it('decides by the mark under its mask, by no user at all', () => {
    check(ambient, [
      ['app', {}, '127.0.0.1:15001'],
      ['app as user 1337', { uid: 1337, gid: 1337 }, '127.0.0.1:15001'],
      ['app to 15008', { port: 15008 }, '127.0.0.1:15001'],
      ['app, IPv6', { to: remote6 }, '[::1]:15001'],
      ['mark 0x539', { mark: 0x539 }, 'pass'],
      ['mark 0x1539: the mask covers twelve bits', { mark: 0x1539 }, 'pass'],
      ['mark 0x53a', { mark: 0x53a }, '127.0.0.1:15001'],
      ['mark 0x111', { mark: 0x111 }, 'pass'],
      ['a mark of all bits', { mark: 0xffffffff }, '127.0.0.1:15001'],
      ['app to 127.0.0.9', { to: '127.0.0.9' }, 'pass'],
      ['app to its own pod, 15008', { to: own, port: 15008 }, 'pass'],
      ['app to localhost', { to: '127.0.0.1' }, 'pass'],
      ['app to a probe source', { to: '169.254.7.127' }, 'pass'],
    ])
  })

  it('captures udp/53 that leaves the pod, and tcp/53 to anything but 127.0.0.1', () => {
    check(ambient, [
      ['udp', { proto: 'udp', port: 53 }, '127.0.0.1:15053'],
      ['udp, IPv6', { proto: 'udp', to: remote6, port: 53 }, '[::1]:15053'],
      ['udp to 127.0.0.53', { proto: 'udp', to: '127.0.0.53', port: 53 }, 'pass'],
      ['udp of ztunnel', { proto: 'udp', port: 53, mark: 0x539 }, 'pass'],
      ['tcp', { port: 53 }, '127.0.0.1:15053'],
      ['tcp to 127.0.0.53', { to: '127.0.0.53', port: 53 }, '127.0.0.1:15053'],
      ['tcp to the own pod', { to: own, port: 53 }, '127.0.0.1:15053'],
      ['tcp to 127.0.0.1', { to: '127.0.0.1', port: 53 }, 'pass'],
      ['tcp to ::1', { to: '::1', port: 53 }, 'pass'],
      ['tcp of ztunnel', { port: 53, mark: 0x539 }, 'pass'],
    ])
  })

  it('lets probes in by their source address and captures every other port', () => {
    const inbound = { direction: 'inbound', to: own, from: '10.9.0.9', port: 8080 } as const
    check(ambient, [
      ['a peer', inbound, '127.0.0.1:15006'],
      ['a probe', { ...inbound, from: '169.254.7.127' }, 'pass'],
      ['a probe, IPv6', { ...inbound, to: own6, from: 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff' }, 'pass'],
      ['a neighbour of the probe', { ...inbound, from: '169.254.7.126' }, '127.0.0.1:15006'],
      ['the tunnel', { ...inbound, port: 15008 }, 'pass'],
      ['15001, 15020 and 15090 are nothing special', { ...inbound, port: 15090 }, '127.0.0.1:15006'],
    ])
  })
})
