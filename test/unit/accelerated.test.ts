/** What compile writes into the map `accelerated`. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Mode } from '../../core/acceleration/api.ts'
import { noId } from '../../core/compile/accelerated.ts'
import { compile } from '../../core/compile/compile.ts'
import { keptRules } from '../../core/compile/keep.ts'
import type { MapContents } from '../../core/compile/maps.ts'
import { AccelMode, acceleratedCodec } from '../../core/contract.ts'
import type { Interception } from '../../core/plugin.ts'
import { compilePod, podAddresses, podRoutes, roomy } from './pods.ts'

const rules = (proxy?: Interception['proxy']): Interception => ({
  outbound: [{ name: 'all', then: 'pass' }],
  inbound: [],
  ...(proxy && { proxy }),
})
const records = ({ accelerated }: MapContents) => [...accelerated.values()].map(({ value }) => acceleratedCodec.decode(value))
const compiled = (interception: Interception, acceleration?: Mode, more: object = {}) =>
  compile({ pods: [{ ...compilePod(interception, { name: 'default/a', netns: 7n }), ...(acceleration && { acceleration }), ...more }] }, roomy)

describe('acceleration of pods', () => {
  it('is nothing without a mode', () => {
    assert.deepEqual(records(compiled(rules({ uid: 1337 })).maps), [])
    assert.deepEqual(records(compiled(rules({ uid: 1337 }), 'none').maps), [])
  })

  it('knows the proxy as the plugin names it; a mark stands alone', () => {
    const of = (proxy?: Interception['proxy'], mode: Mode = 'all') => records(compiled(rules(proxy), mode).maps)
    assert.deepEqual(of({ uid: 1337, gid: 1338 }), [{ netns: 7n, mode: AccelMode.ALL, uid: 1337, gid: 1338, mark: 0 }])
    assert.deepEqual(of({ mark: 1337 }, 'auto'), [{ netns: 7n, mode: AccelMode.AUTO, uid: noId, gid: noId, mark: 1337 }])
    assert.deepEqual(of(undefined, 'proxies'), [{ netns: 7n, mode: AccelMode.PROXIES, uid: noId, gid: noId, mark: 0 }])
  })

  it("takes ids from the pod's user namespace, and nobody for one that has no mapping", () => {
    const ids = { uid: [{ inside: 0, outside: 100_000, count: 65_536 }], gid: [{ inside: 0, outside: 200_000, count: 10 }] }
    const { maps } = compiled(rules({ uid: 1337, gid: 1337 }), 'proxies', { locality: { interfaces: [], ids } })
    assert.deepEqual(records(maps), [{ netns: 7n, mode: AccelMode.PROXIES, uid: 101_337, gid: noId, mark: 0 }])
  })

  it('changes by one entry, and no policy', () => {
    const [before, after] = [compiled(rules({ uid: 1337 }), 'proxies').maps, compiled(rules({ uid: 1337 }), 'all').maps]
    for (const name of Object.keys(before) as (keyof MapContents)[])
      assert.equal(JSON.stringify([...before[name]]) === JSON.stringify([...after[name]]), name !== 'accelerated', name)
  })

  it('of a pod that keeps its rules: the proxy of before, another mode if there is one, nothing if there was nothing', () => {
    const kept = (first: Mode | undefined, then?: Mode) => {
      const { maps } = compiled(rules({ uid: 1337 }), first)
      const own = keptRules(maps, 7n, new Map())
      assert.ok(own)
      const pod = { name: 'default/a', netns: 7n, routes: podRoutes, addresses: podAddresses, kept: own, ...(then && { acceleration: then }) }
      return records(compile({ pods: [], kept: [pod] }, roomy).maps).map(({ mode, uid }) => [mode, uid])
    }
    assert.deepEqual(kept('all'), [[AccelMode.ALL, 1337]])
    assert.deepEqual(kept('all', 'proxies'), [[AccelMode.PROXIES, 1337]])
    assert.deepEqual(kept('all', 'none'), [[AccelMode.NONE, 1337]])
    assert.deepEqual(kept(undefined, 'all'), [])
  })

  it('has no room: the pod is left out with nothing of it', () => {
    const pods = [1n, 2n].map((netns) => ({ ...compilePod(rules(), { name: `default/${netns}`, netns }), acceleration: 'all' as const }))
    const { maps, failed } = compile({ pods }, { ...roomy, accelerated: 1 }, false)
    assert.match(failed.get(2n)?.message ?? '', /default\/2: map accelerated is full/)
    assert.deepEqual([maps.pods.size, maps.accelerated.size], [1, 1])
  })
})
