import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Interception, Rule } from '../../core/plugin.ts'
import { compileOne } from '../unit/pods.ts'
import { type Connection, Reference } from '../unit/reference.ts'
import { istioOutput, type OutputTable } from './istio-output.ts'
import { check, own, pass, remote } from './width.ts'

describe('Istio', () => {
  /** Lists of users and groups reduced to sets: after the first user's rules nothing on lo but its own is left, except tcp/53 for groups. */
  function reduced(table: OutputTable): Interception {
    const captured = table.include.some((cidr) => cidr.startsWith('127.'))
    const dns = table.dns !== undefined
    const to = table.dns === 'all' ? {} : { to: 'servers' }
    const inbound = (name: string, from: string, ...ports: string[]): Rule => ({
      name,
      when: { proto: 'tcp', from, to: 'pod' },
      unless: { to: 'loopback cidr', port: ports },
      then: 'inbound',
    })
    const local: Rule = dns ? pass('local, but for dns', { proto: 'tcp', to: 'pod' }, { port: 'domain' }) : pass('local', { to: 'pod' })
    const groups = table.groups.include === '*' ? pass('excluded groups', { from: 'groups' }) : pass('not an included group', {}, { from: 'groups' })
    const domain = (proto: 'tcp' | 'udp'): Rule => ({ name: `dns over ${proto}`, when: { proto, port: 'domain', ...to }, then: 'dns' })
    return {
      sets: {
        'first user': { uid: table.uids.slice(0, 1) },
        users: { uid: table.uids },
        'users and groups': { uid: table.uids, gid: table.gids },
        gids: { gid: table.gids },
        groups: { gid: table.groups.include === '*' ? table.groups.exclude : table.groups.include },
        tunnel: { ports: [15008] },
        domain: { ports: [53] },
        servers: { cidrs: table.dns === 'all' ? [] : (table.dns ?? []) },
        'loopback cidr': { cidrs: [table.loopback] },
        included: { cidrs: table.include },
        excluded: { cidrs: table.exclude },
        'excluded ports': { ports: table.excludePorts },
      },
      targets: { outbound: { port: 15001 }, inbound: { port: 15006 }, dns: { port: 15053 } },
      outbound: [
        pass('excluded port', { port: 'excluded ports' }),
        pass('handed over', { from: 'passthrough', to: 'pod' }),
        inbound('user calls its own pod', captured ? 'users' : 'first user', 'tunnel', ...(dns ? ['domain'] : [])),
        ...(captured ? [] : [local]),
        pass('users', { from: 'users' }),
        inbound('group calls its own pod', 'gids', 'tunnel'),
        pass('users and groups', { from: 'users and groups' }),
        groups,
        ...(dns ? [domain('tcp'), domain('udp')] : []),
        pass('localhost', { to: 'loopback cidr' }),
        pass('excluded', { to: 'excluded' }),
        { name: 'included', when: { proto: 'tcp', to: 'included' }, then: 'outbound' },
      ],
      inbound: [],
    }
  }

  const ids = Array.from({ length: 64 }, (_, index) => 2000 + 3 * index)
  const some = (...values: string[]) => fc.uniqueArray(fc.constantFrom(...values), { maxLength: 2 })
  const id = fc.constantFrom(0, 7, 8, 2000, 2001, 2003, 2189)
  const tables: fc.Arbitrary<OutputTable> = fc
    .record({
      count: fc.constantFrom(1, 2, 64),
      dns: fc.constantFrom('all' as const, ['10.96.0.10'], [], undefined),
      groups: fc.constantFrom(
        { include: '*' as const, exclude: [] },
        { include: '*' as const, exclude: [7, 8] },
        { include: [7], exclude: [] },
        { include: [], exclude: [] },
      ),
      loopback: fc.constantFrom('127.0.0.1/32', '127.0.0.0/8'),
      include: fc.oneof(fc.constant(['0.0.0.0/0']), some('10.0.0.0/8', '127.0.0.0/8', '192.0.2.0/24')),
      exclude: some('10.96.0.0/12', '192.0.2.9'),
      excludePorts: fc.constantFrom([], [15020], [53]),
    })
    .map(({ count, dns, ...rest }) => ({ uids: ids.slice(0, count), gids: ids.slice(0, count), ...rest, ...(dns === undefined ? {} : { dns }) }))
  const connections: fc.Arbitrary<Connection> = fc
    .record({
      proto: fc.constantFrom('tcp' as const, 'udp' as const),
      to: fc.constantFrom('10.96.0.10', own, '127.0.0.1', '127.0.0.9', '127.0.0.53', remote, '8.8.8.8'),
      port: fc.constantFrom(53, 80, 15008, 15020),
      from: fc.constantFrom(undefined, undefined, '127.0.0.6', own),
      uid: id,
      gid: id,
    })
    .map(({ from, ...rest }) => ({ netns: 1n, direction: 'outbound', ...rest, ...(from === undefined ? {} : { from }) }))

  it('reduces 64 users and 64 groups, owner groups and DNS to 13 rules that decide as its 400 do', () => {
    fc.assert(
      fc.property(tables, fc.array(connections, { minLength: 20, maxLength: 20 }), (table, asked) => {
        const interception = reduced(table)
        assert.ok(interception.outbound.length <= 13)
        const reference = new Reference(compileOne(interception))
        for (const connection of asked) {
          const text = JSON.stringify({ ...connection, netns: 1 })
          assert.equal(reference.decide(connection).verdict, istioOutput(table, connection, own), text)
        }
      }),
      { numRuns: 150 },
    )
  })

  it('sends a group, but not a user, to the inbound port for tcp/53 on lo while DNS is captured', () => {
    const table = {
      uids: [1337],
      gids: [1337],
      dns: 'all',
      groups: { include: '*', exclude: [] },
      loopback: '127.0.0.1/32',
      include: ['0.0.0.0/0'],
    } as const
    check(reduced({ ...table, exclude: [], excludePorts: [] }), [
      ['app', { to: '127.0.0.53', port: 53 }, '127.0.0.1:15053'],
      ['user', { to: '127.0.0.53', port: 53, uid: 1337, gid: 1337 }, 'pass'],
      ['group', { to: '127.0.0.53', port: 53, uid: 0, gid: 1337 }, '127.0.0.1:15006'],
      ['app, udp', { to: '127.0.0.53', port: 53, proto: 'udp' }, '127.0.0.1:15053'],
      ['user, udp', { to: '127.0.0.53', port: 53, proto: 'udp', uid: 1337 }, 'pass'],
      ['app, udp, another port', { to: remote, port: 5353, proto: 'udp' }, 'pass'],
    ])
  })
})
