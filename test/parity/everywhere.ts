/** Every address that nobody has is the peer's, so that a connection that no rule takes ends somewhere at once. */
import { must } from '../lab/net.ts'
import { address, type Kind, type Site } from './shape.ts'

export async function answerEverywhere({ lab, peer }: Site, kind: Kind): Promise<void> {
  await must(lab.node.command(['ip', 'route', 'add', 'default', 'via', address.PEER]))
  await must(peer.command(['ip', 'route', 'add', '10.88.0.0/24', 'via', address.NODE]))
  await must(peer.command(['ip', 'route', 'replace', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', 'main']))
  if (kind === 'v4') return
  await must(lab.node.command(['ip', '-6', 'route', 'add', 'default', 'via', address.PEER6, 'dev', 'br0']))
  await must(peer.command(['ip', '-6', 'route', 'add', 'fd00:88::/64', 'via', address.NODE6, 'dev', 'eth0']))
  await must(peer.command(['ip', '-6', 'route', 'replace', 'local', '::/0', 'dev', 'lo', 'table', 'main']))
}
