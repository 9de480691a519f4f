/** The datapath's life in the kernel: built, adopted, replaced, damaged, blocked, taken away. */
import assert from 'node:assert/strict'
import { appendFileSync, copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { hooks } from '../../core/datapath/hooks.ts'
import { detach, planDetach } from '../../core/detach.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { objectPath } from '../../core/root.ts'
import { pinnedLink, pinnedObjects, remaining } from '../lab/kernel.ts'
import { must } from '../lab/net.ts'
import { startProxy } from '../mesh/sidecar.ts'
import { connectOnce, traffic } from '../parity/probe.ts'
import { app, proxy } from '../parity/shape.ts'
import { cgroup, DatapathUnderTest, kernel, native, reached, refusalsOf, threePods } from './fixture.ts'

const pods = await threePods('datapath')
const { lab, client, server, third, out } = pods
after(() => pods.close())

describe('the datapath in the kernel', { timeout: 180_000 }, () => {
  test('what an agent left half built is cleaned up, and what is built is complete', async () => {
    await using datapath = new DatapathUnderTest('build')
    mkdirSync(join(datapath.bpffs, 'tmp-999999', 'maps'), { recursive: true })
    const agent = await datapath.start(datapath.config([client]))
    await agent[Symbol.asyncDispose]()
    assert.deepEqual(readdirSync(datapath.bpffs), [datapath.pins.split('/').at(-1)])
    const links = hooks.filter(({ program }) => !kernel.skip.has(program)).map(({ name }) => name)
    assert.ok(links.includes('connect6') && links.includes('sendmsg4'))
    assert.deepEqual(readdirSync(join(datapath.pins, 'links')).sort(), links.sort())
    assert.equal(readdirSync(join(datapath.pins, 'pods')).length, 1)
    assert.equal(reached(await out()), 'client:15001')
  })

  test('adopting writes nothing; another build of the programs goes in without a gap', async () => {
    await using datapath = new DatapathUnderTest('replace')
    const config = datapath.config([client, server])
    const first = await datapath.start(config)
    const generation = first.datapath.meta().generation
    await first[Symbol.asyncDispose]()
    const built = await pinnedObjects(datapath.pins)
    const reading = await pinnedLink(join(datapath.pins, 'acceleration/reading'))

    const adopted = await datapath.start(config)
    await adopted[Symbol.asyncDispose]()
    assert.equal(adopted.datapath.adopted, true)
    assert.deepEqual(await pinnedObjects(datapath.pins), built)

    const other = join(lab.directory, 'other.bpf.o')
    copyFileSync(objectPath('merbridge.bpf.o'), other)
    appendFileSync(other, 'another build')
    const load = await traffic(client, app, [server.address, 8080], 4)
    const replaced = await datapath.start(config, { object: other })
    const report = await load.stop()
    assert.deepEqual(report.problems, {})
    assert.deepEqual(Object.keys(report.reached), ['client:15001'])
    assert.equal(replaced.datapath.meta().generation, generation)
    await replaced[Symbol.asyncDispose]()
    const now = await pinnedObjects(datapath.pins)
    const anew = await pinnedLink(join(datapath.pins, 'acceleration/reading'))
    const kept = (links: readonly number[]) => links.filter((id) => id !== reading && id !== anew)
    assert.deepEqual([kept(now.links), now.maps], [kept(built.links), built.maps], 'all but the one that cannot be given another program')
    assert.equal(now.links.length, built.links.length)
    assert.equal(
      now.programs.some((id) => built.programs.includes(id)),
      false,
    )
    assert.deepEqual((await remaining({ ...built, links: [], maps: [] })).programs, [], 'the old programs are gone')

    const later = await datapath.start(config, { object: other })
    await later.reload(datapath.config([client, server, third]))
    assert.equal(reached(await connectOnce(client, proxy, [third.address, 8080])), 'third:15006', 'a pod that joins after that, too')
  })

  test('no descriptor is left open: not after a start, a reload, a pod that joins and one that leaves', async () => {
    const open = () => readdirSync('/proc/self/fd').length
    await using datapath = new DatapathUnderTest('descriptors')
    const config = datapath.config([client])
    const warm = await native.namespaces.watch(client.netns, () => {}) // the threads of the addon keep descriptors of their own
    warm.close()
    const before = open()
    const agent = await datapath.start(config)
    const running = open()
    for (const pods of [[client, server], [server], [], [client]]) await agent.reload(datapath.config(pods))
    await agent.reload(datapath.config([client], { proxyPort: 15101 }))
    await agent.tick()
    assert.equal(open(), running)
    await agent.reload(datapath.config([client, server]))
    assert.equal(open(), running + 1, 'one for each pod: its watch')
    await agent.reload(datapath.config([client]))
    const vanishing = await lab.pod('vanishing')
    await agent.reload(datapath.config([client, vanishing]))
    assert.equal(open(), running + 1)
    await vanishing.remove()
    await agent.tick()
    assert.equal(open(), running, 'none for a path that is gone')
    await agent[Symbol.asyncDispose]()
    assert.equal(open(), before)
  })

  test('a missing policy refuses and is counted; a hook whose pin was lost is attached again', async () => {
    await using datapath = new DatapathUnderTest('damage')
    const config = datapath.config([client, server])
    const agent = await datapath.start(config)
    const entries = await agent.datapath.maps.policies.entries()
    await agent.datapath.maps.policies.deleteBatch(entries.map(({ key }) => key))
    assert.equal((await out()).error, 'ECONNREFUSED')
    assert.equal((await connectOnce(lab.node, app, [server.address, 8080])).error, 'ECONNREFUSED')
    assert.equal((await refusalsOf(agent.datapath)).get('no policy'), 2)
    await agent[Symbol.asyncDispose]()

    unlinkSync(join(datapath.pins, 'links', 'connect4'))
    const repaired = await datapath.start(config)
    assert.equal(reached(await out()), 'client:15001')
    assert.ok(existsSync(join(datapath.pins, 'links', 'connect4')))
    await repaired[Symbol.asyncDispose]()
  })

  test('what others detach or unpin is attached again while the agent runs', async () => {
    await using datapath = new DatapathUnderTest('repair')
    const late = await lab.pod('late')
    const agent = await datapath.start(datapath.config([client, server, late]))
    const tidy = async () => {
      for (let i = 0; i < 10; i++) await agent.tick()
    }
    const [first = '', ...others] = readdirSync(join(datapath.pins, 'pods'))
    for (const link of ['links/connect4', 'links/sockops', `pods/${first}`])
      await must(['bpftool', 'link', 'detach', 'pinned', join(datapath.pins, link)])
    unlinkSync(join(datapath.pins, 'links', 'getsockopt'))
    for (const other of others) unlinkSync(join(datapath.pins, 'pods', other))
    assert.equal(reached(await out()), 'server:app', 'nothing is intercepted now')
    const lateProxy = await startProxy(late) // nobody sees it begin to listen
    await tidy()
    assert.equal(reached(await out()), 'client:15001')
    assert.equal(reached(await connectOnce(client, proxy, [late.address, 8080])), 'late:15006')
    await lateProxy.stop()
    await late.remove()
    assert.equal((await out()).origin?.['16'], `${server.address}:8080 (16 bytes)`)
    for (const pod of [client, server]) assert.equal(reached(await connectOnce(lab.node, app, [pod.address, 8080])), `${pod.name}:15006`)
  })

  test('an incomplete datapath is replaced, and the programs follow the cgroup that the config names', async () => {
    await using datapath = new DatapathUnderTest('incomplete')
    const config = datapath.config([client])
    const first = await datapath.start(config)
    await first[Symbol.asyncDispose]()
    const objects = await pinnedObjects(datapath.pins)
    unlinkSync(join(datapath.pins, 'maps', 'routes'))
    const second = await datapath.start(config)
    await second.datapath.removeOthers(datapath.bpffs, () => {})
    await second[Symbol.asyncDispose]()
    assert.deepEqual(await remaining(objects), { programs: [], links: [], maps: [] })
    assert.equal(reached(await out()), 'client:15001')

    // What a detach leaves that was killed at its very end.
    const third = await datapath.start(config)
    third.datapath[Symbol.dispose]()
    await detach(native, await planDetach(native, { bpffs: datapath.bpffs, mode: 'bypass', podNames: new Map() }))
    mkdirSync(join(datapath.pins, 'maps'), { recursive: true })
    const fourth = await datapath.start(config)
    await fourth.datapath.removeOthers(datapath.bpffs, () => {})
    fourth.datapath[Symbol.dispose]()
    assert.equal(reached(await out()), 'client:15001')

    const elsewhere = join(cgroup, `merbridge-test-${process.pid}`)
    mkdirSync(elsewhere)
    try {
      const moved = await datapath.start(config, { cgroup: elsewhere })
      assert.equal(reached(await out()), 'server:app', 'the app is not in that cgroup')
      await moved[Symbol.asyncDispose]()
      const back = await datapath.start(config)
      assert.equal(reached(await out()), 'client:15001')
      await back[Symbol.asyncDispose]()
    } finally {
      rmdirSync(elsewhere)
    }
  })

  test('detach refuses; --block refuses what the proxy would have taken; a new agent lifts it; --bypass leaves nothing', async () => {
    await using datapath = new DatapathUnderTest('leave')
    const config = datapath.config([client])
    const agent = await datapath.start(config)
    await agent[Symbol.asyncDispose]()
    const objects = await pinnedObjects(datapath.pins)
    const setting = { bpffs: datapath.bpffs, podNames: new Map([[client.netns, 'default/client']]) }
    const refused = await planDetach(native, { ...setting, mode: 'refuse' }).catch((error: unknown) => error)
    assert.ok(refused instanceof MerbridgeError && refused.code === 'DETACH_REFUSED' && refused.message.includes('default/client'), String(refused))
    assert.equal(reached(await out()), 'client:15001')

    const blocked = await detach(native, await planDetach(native, { ...setting, mode: 'block' }))
    assert.deepEqual(blocked.blocked, ['default/client'])
    assert.equal((await out()).error, 'ECONNREFUSED')
    assert.equal((await connectOnce(lab.node, app, [client.address, 8080])).error, 'ECONNREFUSED')
    assert.equal(reached(await connectOnce(client, app, ['127.0.0.1', 8080])), 'client:app', 'what the mesh does not take goes on')

    const again = await datapath.start(config)
    await again[Symbol.asyncDispose]()
    assert.equal(reached(await out()), 'client:15001')

    const gone = await detach(native, await planDetach(native, { ...setting, mode: 'bypass' }))
    assert.deepEqual(gone.bypassed, ['default/client'])
    assert.equal(reached(await out()), 'server:app')
    assert.equal(existsSync(datapath.bpffs), false)
    assert.deepEqual(await remaining(objects), { programs: [], links: [], maps: [] })
  })

  test('a datapath of another version of the contract is replaced, and detach removes one that this build cannot read', async () => {
    await using datapath = new DatapathUnderTest('version')
    const config = datapath.config([client])
    const first = await datapath.start(config)
    await first[Symbol.asyncDispose]()
    const old = join(datapath.bpffs, 'v-0000000000000000')
    renameSync(datapath.pins, old)
    const objects = await pinnedObjects(old)
    const next = await datapath.start(config)
    assert.equal(next.datapath.adopted, false)
    await next.datapath.removeOthers(datapath.bpffs, () => {})
    await next[Symbol.asyncDispose]()
    assert.deepEqual(await remaining(objects), { programs: [], links: [], maps: [] })
    assert.equal(reached(await out()), 'client:15001')

    renameSync(datapath.pins, old)
    const view = await detach(native, await planDetach(native, { bpffs: datapath.bpffs, mode: 'bypass', podNames: new Map() }))
    assert.deepEqual(view.bypassed, [client.netns])
    assert.equal(reached(await out()), 'server:app')
  })
})
