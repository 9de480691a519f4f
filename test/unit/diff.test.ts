import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { diff } from '../../core/diff.ts'
import type { Entry } from '../../core/native/api.ts'

type Text = Readonly<Record<string, string>>
const bytes = (text: string) => Buffer.from(text)
const entries = (text: Text): Entry[] => Object.entries(text).map(([key, value]) => ({ key: bytes(key), value: bytes(value) }))
const wanted = (text: Text) => new Map(entries(text).map((entry) => [entry.key.toString('hex'), entry]))

describe('diff', () => {
  it('names what is new, what changed and what must go', () => {
    const { put, remove } = diff(entries({ same: '1', changed: '1', gone: '1' }), wanted({ same: '1', changed: '2', added: '1' }))
    assert.deepEqual(put, entries({ changed: '2', added: '1' }))
    assert.deepEqual(remove, [bytes('gone')])
  })

  it('turns any contents into any others, and then has nothing left to do', () => {
    const contents = fc.dictionary(fc.constantFrom(...'abcdef'), fc.constantFrom('1', '2'))
    fc.assert(
      fc.property(contents, contents, (have, want) => {
        const kernel = new Map(entries(have).map((entry) => [entry.key.toString('hex'), entry]))
        const { put, remove } = diff(kernel.values(), wanted(want))
        for (const key of remove) assert.ok(kernel.delete(key.toString('hex')), 'only what is there is removed')
        for (const entry of put) kernel.set(entry.key.toString('hex'), entry)
        const now = Object.fromEntries([...kernel.values()].map(({ key, value }) => [key.toString(), value.toString()]))
        assert.deepEqual(now, { ...want })
        assert.deepEqual(diff(kernel.values(), wanted(want)), { put: [], remove: [] })
      }),
    )
  })
})
