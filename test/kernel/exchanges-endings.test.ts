/** The exchanges about ends, stalls, shared sockets and beginnings: each word has one, and the options that are theirs decide what they say. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { failed, listExchanges, runBetween, runBoth } from '../lab/exchanges.ts'
import { Lab, type LabPod } from '../lab/net.ts'

const WORDS = [
  ...['SO_LINGER', 'SHUT_WR', 'SHUT_RD', 'SHUT_RDWR', 'FIN right after data', 'RST', 'close with unread data', 'EPIPE', 'fork', 'fd-passing', 'dup'],
  ...['splice', 'sendfile', 'tee both ways', 'vmsplice', 'a reader that never reads', 'a reader that stops and goes on', 'peer killed'],
  ...['10,000 connections', 'reuse of a 4-tuple', 'half-open', 'keepalive', 'TCP_USER_TIMEOUT', "TCP_INFO's state", 'SO_ERROR', 'closed port'],
  ...['Fast Open', 'TCP_DEFER_ACCEPT', 'the server speaks first', 'O_NONBLOCK', 'SO_ZEROCOPY', 'SO_RCVBUF', 'TCP_ULP tls', 'MPTCP', 'churn'],
]

describe('the exchanges about ends, over plain TCP', { timeout: 120_000 }, () => {
  let lab: Lab
  let one: LabPod
  let two: LabPod

  before(async () => {
    lab = await Lab.create('endings')
    one = await lab.pod('one', { ipv6: true })
    two = await lab.pod('two', { ipv6: true })
  })
  after(() => lab?.close())

  test('there is one for each word', async () => {
    const texts = (await listExchanges()).map(({ name, title }) => `${name} ${title}`).join('\n')
    assert.deepEqual(
      WORDS.filter((word) => !texts.includes(word)),
      [],
    )
  })

  test('where Fast Open is allowed, the data is in the SYN', async () => {
    for (const pod of [one, two]) await pod.exec(['sysctl', '-qw', 'net.ipv4.tcp_fastopen=3'])
    const control = join(lab.directory, 'fast-open.sock')
    for (const listen of [`${two.address}:7000`, `[${two.ipv6}]:7000`]) {
      const all = await runBetween({ client: one, server: two, listen, control }, 'fast-open')
      assert.deepEqual(failed(all), [])
      const said = all.flatMap(({ transcript }) => transcript).filter((line) => line.startsWith('data in the SYN'))
      assert.deepEqual(said, Array(4).fill('data in the SYN: yes'))
    }
  })

  test('--connections decides how many', async () => {
    const all = await runBoth(one, 'many-connections', ['--connections', '300'])
    assert.deepEqual(failed(all), [])
    for (const { transcript } of all) assert.ok(transcript.includes('300 connections'), transcript.join('\n'))
  })

  test('more than --bound bytes on their way to a reader that does not read are a failure', async () => {
    const all = await runBoth(one, 'never-reads,never-reads-blocking', ['--bound', '100000'])
    assert.match(failed(all).join('\n'), /never-reads client: .*more than 100000 bytes are under way to a reader that does not read/)
    assert.match(failed(all).join('\n'), /never-reads-blocking client: .* bytes went to a reader that does not read/)
  })

  test('a user without privileges runs them too; what needs privileges is skipped on both sides', async () => {
    const names = 'half-open,user-timeout,peer-killed,closed-port,churn'
    const all = await runBoth(one, names, ['--client-uid', '1000', '--server-uid', '1337'])
    assert.deepEqual(failed(all), [])
    const skipped = all.filter((half) => half.skipped.length > 0).map(({ name, side }) => `${name} ${side}`)
    assert.deepEqual(skipped, ['half-open client', 'half-open server'])
  })
})
