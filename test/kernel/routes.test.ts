/** The mirror of a namespace's routes says what the kernel's routing does: same source, same errno, same interface, same idea of what is local. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Lab } from '../lab/net.ts'
import { batch, compareWithKernel } from './routing.ts'

const setUp = `
link add d0 type veth peer name p0
link add d1 type veth peer name p1
address add 192.0.2.1/32 dev lo
address add 172.20.0.5/16 dev d0
address add 172.20.0.6/16 dev d0
address add 172.21.0.7/24 dev d0
address add 172.22.0.1/24 dev d0 scope link
address add fd20::5/64 dev d0 nodad
address add fd21::7/64 dev d0 nodad
link set d0 up
link set p0 up
link set d1 up
link set p1 up
route add 172.30.0.0/16 dev d1
route add 172.31.0.0/16 via 172.21.0.9 dev d0
route add 172.31.128.0/17 via 172.20.0.9 dev d0 src 172.20.0.6
route add 172.31.200.0/24 via 172.20.0.9 dev d0 metric 20
route add 172.31.200.0/24 via 172.21.0.9 dev d0 metric 10
route add 172.29.0.0/16 via 192.168.55.1 dev d0 onlink
route add local 198.51.100.0/24 dev lo
route add 127.5.0.0/16 dev d0
route add 198.51.100.128/25 dev d0
route add 224.1.0.0/16 dev d0
route add blackhole 10.8.0.0/16
route add unreachable 10.7.0.0/16
route add prohibit 10.6.0.0/16
route add throw 10.5.0.0/16
route add throw 127.6.0.0/16
route add throw 10.4.0.0/16
route add 10.4.4.0/24 via 172.21.0.9 dev d0
route add 10.4.0.0/17 via 172.20.0.9 dev d0 table 253
route add 10.8.8.0/24 via 172.20.0.9 dev d0 table 253
route add 10.3.0.0/16 via 172.20.0.9 dev d0 table 253
route add unreachable 10.2.0.0/16 table 100
route add blackhole fd08::/16
route add unreachable fd07::/16
route add prohibit fd06::/16
route add throw fd05::/16
route add fd30::/16 via fd20::9 dev d0 src fd21::7
route add fd31::/16 via fd20::9 dev d0 table 253
route add local fd32::/64 dev lo
route add ::/0 via fd20::1 dev d0
`

async function compare(lab: Lab, defaultRoute: boolean): Promise<number> {
  const pod = await lab.pod(defaultRoute ? 'with-default' : 'without-default')
  await batch(pod, setUp)
  if (!defaultRoute) await batch(pod, 'route del default\nroute del ::/0\n')
  return compareWithKernel(pod)
}

test('routing of a pod with many addresses and every type of route is mirrored', async () => {
  await using lab = await Lab.create('routes')
  assert.ok((await compare(lab, true)) > 100)
  assert.ok((await compare(lab, false)) > 100)
})
