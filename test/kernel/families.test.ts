/** TCP over IPv6 and over IPv4 in IPv6 sockets: what an app and its proxy see of a redirected connection, whatever the family of either's socket. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Lab } from '../lab/net.ts'
import { both, type Case, connectAll, type Got, mapped, serveEnds, withoutPort } from './ends.ts'
import { DatapathUnderTest, kernel, seesProxy } from './fixture.ts'
import { sixty } from './sixty.ts'

const lab = await Lab.create('families')
after(() => lab.close())

const setRetval = kernel.features.some(({ id, state }) => id === 'set_retval' && state === 'yes')

describe('both families', { timeout: 120_000 }, async () => {
  const client = await lab.pod('client', { ipv6: true })
  const server = await lab.pod('server', { ipv6: true })

  test('a proxy on both families gets IPv4, mapped and IPv6 connections; everybody sees the form that his socket has', async () => {
    await using datapath = new DatapathUnderTest('families')
    await datapath.start(datapath.withPlugin([client, server], sixty))
    await using _proxy = await serveEnds(client, [both('out', 15001)])
    await using _in = await serveEnds(server, [both('in', 15006)])
    const [four, six, map] = (await connectAll(
      client,
      1000,
      { family: 4, to: [server.address, 8080] },
      { family: 6, to: [server.ipv6, 8080] },
      { family: 6, to: [mapped(server.address), 8080] },
    )) as [Got, Got, Got]
    for (const [got, own, peer] of [
      [four, client.address, `${server.address}:8080`],
      [six, `[${client.ipv6}]`, `[${server.ipv6}]:8080`],
      [map, `[${mapped(client.address)}]`, `[${mapped(server.address)}]:8080`],
    ] as const) {
      assert.equal(got.error, undefined)
      assert.equal(got.seen.listener, 'out')
      assert.equal(withoutPort(got.own), own)
      if (!seesProxy) assert.equal(got.peer, peer)
    }
    for (const got of [four, map]) {
      assert.equal(withoutPort(got.seen.peer), `[${mapped(client.address)}]`)
      assert.equal(got.seen.own, '[::ffff:127.0.0.1]:15001')
      const asked = `${server.address}:8080`
      if (setRetval) assert.deepEqual(got.seen.original, { ip: asked, ipv6: 'ENOENT', 'short ip': 'EINVAL', 'short ipv6': 'EINVAL' })
      assert.equal(got.original.ip, asked)
    }
    assert.equal(withoutPort(six.seen.peer), `[${client.ipv6}]`)
    assert.equal(six.seen.own, '[::1]:15001')
    const asked = `[${server.ipv6}]:8080`
    if (setRetval) assert.deepEqual(six.seen.original, { ip: 'ENOENT', ipv6: asked, 'short ip': 'EINVAL', 'short ipv6': 'EINVAL' })
    if (setRetval) assert.equal(four.original.ipv6, 'EOPNOTSUPP')
    assert.equal(six.original.ipv6, asked)
  })

  test('inbound, in both families, to a proxy on one of them, on loopback, or on both', async () => {
    await using datapath = new DatapathUnderTest('inbound6')
    await datapath.start(datapath.withPlugin([server], sixty))
    const to = [
      { family: 4, to: [server.address, 8080] },
      { family: 6, to: [server.ipv6, 8080] },
    ] as const
    for (const [listeners, four, six] of [
      [[both('in', 15006)], 'in', 'in'],
      [[{ name: 'in', address: '0.0.0.0', port: 15006 }], 'in', 'ECONNREFUSED'],
      [[{ name: 'in', address: '127.0.0.1', port: 15006 }], 'in', 'ECONNREFUSED'],
      [[{ name: 'in', address: '::', port: 15006, only6: true }], 'ECONNREFUSED', 'in'],
      [[{ name: 'in', address: '::1', port: 15006 }], 'ECONNREFUSED', 'in'],
      [
        [
          { name: 'four', address: '0.0.0.0', port: 15006 },
          { name: 'six', address: '::', port: 15006, only6: true },
        ],
        'four',
        'six',
      ],
    ] as const) {
      await using _proxy = await serveEnds(server, listeners)
      const got = await connectAll(client, 1000, ...to)
      assert.deepEqual(
        got.map(({ error, seen }) => error ?? seen.listener),
        [four, six],
        JSON.stringify(listeners),
      )
      for (const [index, { error, seen }] of got.entries()) {
        if (error !== undefined) continue
        assert.equal(seen.original[index === 0 ? 'ip' : 'ipv6'], index === 0 ? `${server.address}:8080` : `[${server.ipv6}]:8080`)
        assert.ok(withoutPort(seen.peer).includes(index === 0 ? client.address : client.ipv6))
      }
    }
  })

  test('a proxy on one family refuses the other, as a port that nobody listens on', async () => {
    await using datapath = new DatapathUnderTest('onefamily')
    await datapath.start(datapath.withPlugin([client], sixty))
    const cases = [
      { family: 4, to: [server.address, 8080] },
      { family: 6, to: [mapped(server.address), 8080] },
      { family: 6, to: [server.ipv6, 8080] },
    ] as const
    for (const [listener, four, six] of [
      [{ name: 'out', address: '0.0.0.0', port: 15001 }, 'out', 'ECONNREFUSED'],
      [{ name: 'out', address: '::', port: 15001, only6: true }, 'ECONNREFUSED', 'out'],
    ] as const) {
      await using _proxy = await serveEnds(client, [listener])
      const got = await connectAll(client, 1000, ...cases)
      assert.deepEqual(
        got.map(({ error, seen }) => error ?? seen.listener),
        [four, four, six],
      )
    }
  })

  test('bound sources: a port, an address, loopback, the other family; and a socket that is used again', async () => {
    await using datapath = new DatapathUnderTest('bound6')
    await datapath.start(datapath.withPlugin([client], sixty))
    await using _proxy = await serveEnds(client, [both('out', 15001), both('app', 8080)])
    const six = [server.ipv6, 8080] as const
    const [port, address, loopback, crosswise, portOfMapped, again, other] = (await connectAll(
      client,
      1000,
      { family: 6, to: six, bind: ['::', 45001] },
      { family: 6, to: six, bind: [client.ipv6, 0] },
      { family: 6, to: six, bind: ['::1', 0] },
      { family: 6, to: six, bind: [mapped(client.address), 0] },
      { family: 6, to: [mapped(server.address), 8080], bind: ['::', 45002] },
      { family: 6, to: six, again: ['::1', 8080] },
      { family: 6, to: six, again: [mapped(server.address), 8080] },
    )) as [Got, Got, Got, Got, Got, Got, Got]
    assert.equal(port.own, `[${client.ipv6}]:45001`)
    assert.deepEqual([port.seen.listener, port.seen.peer], ['out', `[${client.ipv6}]:45001`])
    assert.deepEqual([address.seen.listener, withoutPort(address.seen.peer)], ['out', `[${client.ipv6}]`])
    assert.deepEqual([loopback.seen.listener, withoutPort(loopback.seen.peer)], ['out', '[::1]'])
    assert.equal(crosswise.error, 'EAFNOSUPPORT')
    assert.deepEqual([portOfMapped.seen.listener, portOfMapped.seen.peer], ['out', `[${mapped(client.address)}]:45002`])
    assert.deepEqual([again.seen.listener, withoutPort(again.own), again.peer], ['app', '[::1]', '[::1]:8080'])
    assert.equal(other.error, 'ENETUNREACH') // docs/parity.md: the bind of an IPv6 source makes the socket one for IPv6 alone
  })

  test('what cannot be reached gives the errno that it has without redirection', async () => {
    const fourOnly = await lab.pod('fouronly')
    const sixOnly = await lab.pod('sixonly', { ipv6: 'alone' })
    const from4: readonly Case[] = [
      { family: 6, to: [server.ipv6, 8080] },
      { family: 6, to: ['ff02::1', 8080] },
    ]
    const from6: readonly Case[] = [
      { family: 4, to: [server.address, 8080] },
      { family: 6, to: [mapped(server.address), 8080] },
      { family: 6, to: [mapped(server.address), 8080], only6: true },
    ]
    const direct = [await connectAll(fourOnly, 1000, ...from4), await connectAll(sixOnly, 1000, ...from6)]
    await using datapath = new DatapathUnderTest('unreachable6')
    await datapath.start(datapath.withPlugin([fourOnly, sixOnly], sixty))
    await using _four = await serveEnds(fourOnly, [both('out', 15001)])
    await using _six = await serveEnds(sixOnly, [both('out', 15001)])
    assert.deepEqual([await connectAll(fourOnly, 1000, ...from4), await connectAll(sixOnly, 1000, ...from6)], direct)
    assert.deepEqual(
      direct.flat().map(({ error }) => error),
      Array(5).fill('ENETUNREACH'),
    )
    assert.equal((await connectAll(sixOnly, 1000, { family: 6, to: [server.ipv6, 8080] }))[0]?.seen.listener, 'out')
  })
})
