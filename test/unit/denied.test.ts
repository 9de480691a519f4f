/** Which kernels are on the deny list. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deniedBy, kernelVersion } from '../../core/features/denied.ts'

const iterator = (release: string, version = '#1 SMP') => deniedBy('listener_iterator', kernelVersion(release, version)) !== undefined

test('the level of a Debian kernel stands in its version, of others in the release', () => {
  assert.deepEqual(kernelVersion('6.1.0-56-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 6.1.182-1 (2026-10-29)'), [6, 1, 182])
  assert.deepEqual(kernelVersion('6.12.94+deb13-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 6.12.94-1 (2026-07-01)'), [6, 12, 94])
  assert.deepEqual(kernelVersion('5.14.0-503.11.1.el9_5.x86_64', '#1 SMP PREEMPT_DYNAMIC'), [5, 14, 0])
  assert.deepEqual(kernelVersion('7.3-rc2', '#1'), [7, 3, 0])
})

test('each range begins and ends where its source says', () => {
  for (const good of ['5.10.262', '5.4.1', '6.1.183', '6.6.152', '6.12.104', '6.18.45', '7.1.9', '7.2.0', '7.3.4', '8.0.0'])
    assert.equal(iterator(good), false, good)
  for (const bad of [
    '5.11.0',
    '5.15.200',
    '6.1.41',
    '6.1.42',
    '6.1.182',
    '6.4.9',
    '6.5.0',
    '6.6.151',
    '6.12.103',
    '6.16.12',
    '6.18.44',
    '7.0.99',
    '7.1.8',
  ])
    assert.equal(iterator(bad), true, bad)
  assert.equal(iterator('6.1.0-56-amd64'), true, 'a level that nobody tells is taken for a bad one')
  assert.equal(deniedBy('getpeername', [6, 1, 1]), undefined, 'other features are not touched')
})
