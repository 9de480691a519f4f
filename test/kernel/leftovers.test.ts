/** The search for leftovers at the end of `npm test` finds what a datapath that is not detached would leave. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { test } from 'node:test'
import { leftovers, snapshot } from '../../scripts/leftovers.ts'

test('a map and its pin, a network namespace, an interface and a cgroup are named until they are gone', async () => {
  const name = `left${process.pid}`
  const root = readFileSync('/proc/self/mounts', 'utf8').match(/^\S+ (\S+) cgroup2 /m)?.[1] ?? ''
  const cgroup = `${root}/${name}`
  const pin = `/sys/fs/bpf/${name}`
  const before = await snapshot(true)
  const words = (line: string) => line.split(' ')
  try {
    execFileSync('bpftool', words(`map create ${pin} type array key 4 value 4 entries 1 name ${name}`))
    execFileSync('ip', words(`netns add ${name}`))
    execFileSync('ip', words(`link add ${name} type veth`))
    mkdirSync(cgroup)
    const found = await leftovers(before)
    const map = found.find((line) => /^BPF map \d+ array /.test(line) && line.endsWith(name))
    assert.ok(map, found.join('\n'))
    for (const line of [`pin ${pin}`, `network namespace ${name}`, `network interface ${name}`, `cgroup ${cgroup}`]) {
      assert.ok(found.includes(line), `${line} is missing in\n${found.join('\n')}`)
    }
  } finally {
    rmSync(pin, { force: true })
    for (const command of [`netns del ${name}`, `link del ${name}`]) {
      try {
        execFileSync('ip', words(command), { stdio: 'ignore' })
      } catch {} // it was not made
    }
    if (existsSync(cgroup)) rmdirSync(cgroup)
  }
  const left = await leftovers(before)
  assert.deepEqual(
    left.filter((line) => line.includes(name)),
    [],
  )
})
