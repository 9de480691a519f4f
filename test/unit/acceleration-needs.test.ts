/** Which kernels go without acceleration, and what they say. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { acceleration as programs } from '../../core/datapath/hooks.ts'
import { lookerOf } from '../../core/datapath/looker.ts'
import { accelerationLacks, forbidsReads } from '../../core/features/acceleration.ts'
import { deniedBy, kernelVersion } from '../../core/features/denied.ts'
import { whySkipped } from '../../core/features/probe.ts'

const all = ['kernel_reads', 'sockops_netns_cookie', 'sockops_storage', 'skmsg_storage']
const without = (id: string) => new Set(all.filter((each) => each !== id))
const none = new Set<string>()

test('everything must be there; what is not is named', () => {
  assert.equal(accelerationLacks(new Set(all), none, ''), undefined)
  assert.match(accelerationLacks(without('skmsg_storage'), none, '') ?? '', /sk_msg programs have no socket storage/)
  assert.match(accelerationLacks(without('sockops_netns_cookie'), none, '') ?? '', /Linux 5\.15/)
  assert.match(accelerationLacks(without('skmsg_storage'), new Set(['skmsg_storage']), '') ?? '', /attach\.without in the config has skmsg_storage/)
})

test('why kernel memory may not be read', () => {
  const text = (forced: ReadonlySet<string>, lockdown: string) => accelerationLacks(without('kernel_reads'), forced, lockdown) ?? ''
  assert.match(text(none, 'none integrity [confidentiality]\n'), /lockdown is "confidentiality"/)
  assert.match(text(none, 'none [integrity] confidentiality\n'), /CAP_PERFMON/)
  assert.match(text(new Set(['kernel_reads']), ''), /attach\.without in the config has kernel_reads/)
  assert.equal(forbidsReads('[none] integrity confidentiality'), false)
})

test('since 7.0 the iterator over socket storage is not read, whatever a distribution calls its kernel', () => {
  const denied = (release: string, version = '#1 SMP') => deniedBy('storage_iterator', kernelVersion(release, version))?.reason
  for (const good of [
    '5.10.262',
    '6.1.159',
    '6.12.0-55.9.1.el10_0.x86_64',
    '6.18.44',
    '6.18.15+deb13-amd64',
    '6.8.0-60-generic',
    '6.19.14',
    '6.99.0',
  ])
    assert.equal(denied(good), undefined, good)
  for (const bad of ['7.0-rc1', '7.0.0', '7.0.0-14-generic', '7.0.12-200.fc44.x86_64', '7.1.9', '7.2.13+deb14-amd64', '7.3.4', '7.3-rc2', '8.0.1'])
    assert.match(denied(bad) ?? '', /crashes the node when a socket closes/, bad)
  assert.ok(denied('7.3+deb13-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 7.3.4-1~bpo13+1 (2026-11-20)'))
})

test('one of the two programs that look at sockets is wanted; that says nothing of acceleration', () => {
  assert.equal(lookerOf(new Map()), programs.late)
  assert.equal(lookerOf(new Map([[programs.walk, 'not wanted']])), programs.late)
  assert.equal(lookerOf(new Map([[programs.late, 'crashes']])), programs.walk)
  const all = Object.values(programs)
  assert.equal(whySkipped(all, new Map([[programs.late, 'crashes']])), undefined)
  assert.equal(whySkipped(all, new Map(all.map((program) => [program, 'switched off']))), 'switched off')
  assert.equal(whySkipped(['mb_listeners'], new Map([['mb_listeners', 'hangs']])), 'hangs')
})

test('kernels with known crashes are denied, each with a reason', () => {
  const denied = (release: string, version = '#1 SMP') => deniedBy('acceleration', kernelVersion(release, version))?.reason
  for (const good of ['5.10.262', '6.1.159', '6.6.118', '6.12.60', '6.17.10', '6.18.0', '6.18.44', '7.1.9', '7.2.0', '7.3-rc2'])
    assert.equal(denied(good), undefined, good)
  for (const bad of [
    '5.10.246',
    '5.15.196',
    '5.15.200',
    '6.0.19',
    '6.1.158',
    '6.2.16',
    '6.6.117',
    '6.8.0-60-generic',
    '6.12.59',
    '6.16.12',
    '6.17.9',
    '7.0.12',
    '7.1.8',
  ])
    assert.ok(denied(bad), bad)
  assert.match(denied('6.1.94') ?? '', /CVE-2024-39500/)
  assert.match(denied('6.6.65') ?? '', /CVE-2024-56633/)
  assert.match(denied('6.12.59') ?? '', /CVE-2025-68227/)
  assert.equal(denied('6.1.0-56-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 6.1.182-1 (2026-10-29)'), undefined)
})
