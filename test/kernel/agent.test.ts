/** The agent as an operator starts it: what it refuses, what it survives, what it says. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { cgroupMounts } from '../../core/cgroup.ts'
import { Agent, execute, program, until } from '../lab/agent.ts'
import { Lab, type LabPod } from '../lab/net.ts'

/** `merbridge run` that is expected to end by itself. */
interface Start {
  readonly text: string
  /** Words before the program: another user, another mount namespace. */
  readonly around?: readonly string[]
}

describe('the agent as a process', { timeout: 240_000 }, () => {
  let lab: Lab
  let pod: LabPod
  let directory: string

  before(async () => {
    lab = await Lab.create('agent')
    pod = await lab.pod('pod')
  })
  after(() => lab?.close())
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'merbridge-test-'))
    await chmod(directory, 0o755)
  })
  afterEach(async () => {
    await execute(program, ['detach', '--bypass', '--config', '/nonexistent', '--bpffs', `/sys/fs/bpf/${basename(directory)}`])
    await rm(directory, { recursive: true, force: true })
  })

  const config = (more = '', bpffs = `/sys/fs/bpf/${basename(directory)}`) =>
    `version: 1\nmesh: istio\nworkloads: { static: [{ name: pod, netns: ${pod.netns} }] }\nattach: { bpffs: ${bpffs} }\n` +
    `control: { socket: ${directory}/agent.sock }\n${more}`

  async function start({ text, around = [] }: Start) {
    const file = join(directory, 'config.yaml')
    await writeFile(file, text)
    const [command = '', ...rest] = [...around, program, 'run', '--config', file, '--state-dir', join(directory, 'state')]
    return execute(command, rest)
  }

  async function refusesToStart(what: Start, code: number, said: RegExp): Promise<void> {
    const outcome = await start(what)
    assert.equal(outcome.code, code, outcome.stderr)
    assert.match(outcome.stderr, said)
    assert.doesNotMatch(outcome.stderr, /^\s+at /m, 'no stack trace')
    assert.deepEqual(
      (await readdir('/sys/fs/bpf')).filter((name) => name === basename(directory)),
      [],
      'nothing is left in bpffs',
    )
  }

  test('no good config: exit 2, with line, column and caret', () =>
    refusesToStart({ text: config('log: { levle: info }') }, 2, /config\.yaml:6:8: .*levle[\s\S]*\^[\s\S]*level/))

  test('not root: exit 1', () =>
    refusesToStart({ text: config(), around: ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] }, 1, /CAP_SYS_ADMIN[\s\S]*root/))

  test('no BTF: exit 1', () =>
    refusesToStart({ text: config(), around: ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', 'sh'] }, 1, /no BTF/))

  test('no cgroup v2: exit 1', async () => {
    const mounts = cgroupMounts(await readFile('/proc/self/mountinfo', 'utf8'))
    const script = `${mounts.map(({ path }) => `umount -l '${path}'`).join(' && ')} && exec "$@"`
    await refusesToStart(
      { text: config(), around: ['unshare', '-m', 'sh', '-c', script, 'sh'] },
      1,
      /cgroup v2 is not mounted[\s\S]*mount -t cgroup2/,
    )
  })

  test('a cgroup that is none: exit 1', () =>
    refusesToStart({ text: config().replace('attach: {', 'attach: { cgroup: /tmp,') }, 1, /\/tmp is not a directory of cgroup v2/))

  test('no bpffs: exit 1', () => refusesToStart({ text: config('', join(directory, 'pins')) }, 1, /not on a BPF file system[\s\S]*mount -t bpf/))

  test('something else is where the control socket should be: exit 1, before the datapath is touched', async () => {
    await writeFile(join(directory, 'agent.sock'), 'mine')
    await refusesToStart({ text: config() }, 1, /agent\.sock[\s\S]*another path/)
    assert.equal(await readFile(join(directory, 'agent.sock'), 'utf8'), 'mine')
  })

  test('detach removes nothing that is not pinned in a BPF file system', async () => {
    await mkdir(join(directory, 'v-1', 'maps'), { recursive: true })
    await writeFile(join(directory, 'v-1', 'maps', 'important'), '')
    const outcome = await execute(program, ['detach', '--bypass', '--config', '/nonexistent', '--bpffs', directory])
    assert.equal(outcome.code, 1)
    assert.match(outcome.stderr, /not on a BPF file system.*nothing was removed/)
    assert.deepEqual(await readdir(join(directory, 'v-1', 'maps')), ['important'])
  })

  test('a second agent: exit 1, and the first one goes on', async () => {
    await using agent = await Agent.start({ pods: [{ name: 'pod', netns: pod.netns }] })
    const outcome = await agent.command(['run'])
    assert.equal(outcome.code, 1)
    assert.match(outcome.stderr, new RegExp(`another agent \\(pid ${agent.pid}\\)`))
    assert.equal((await agent.status()).agent.ready, true)
  })

  test('detach stops a running agent, whatever it does at that moment', async () => {
    for (const phase of [0, 300, 600, 900]) {
      await using agent = await Agent.start({ pods: [{ name: 'pod', netns: pod.netns }] })
      await sleep(phase) // of the second after which the agent looks at its pods again
      const { code, stderr } = await agent.detach('--bypass')
      assert.equal(code, 0, stderr)
      await until('the agent has ended', 5000, () => (agent.pid === undefined ? true : undefined))
      assert.equal(existsSync(agent.bpffs), false)
    }
  })

  test('a bad reload changes nothing; a restart beside it runs with the last good config and is not ready', async () => {
    const pods = [{ name: 'pod', netns: pod.netns }]
    await using agent = await Agent.start({ pods })
    const good = await agent.status()
    await writeFile(agent.configFile, 'version: 1\nmesh: isto\n')
    const refused = await agent.waitFor('the reload is refused', 20_000, (status) => status.config.lastReload.outcome === 'refused')
    assert.match(
      refused.config.lastReload.reason ?? '',
      /config\.yaml:2:7: mesh: must be [a-z, ]*\bistio\b[a-z, ]*, but is "isto"\. Did you mean "istio"\?/,
    )
    assert.deepEqual([refused.config.generation, refused.pods.enrolled, refused.agent.ready], [good.config.generation, 1, true])

    await agent.kill('SIGKILL')
    await agent.run('answering')
    const restarted = await agent.status()
    assert.equal(restarted.agent.ready, false)
    assert.match(restarted.agent.notReady.join(), /last good config/)
    assert.deepEqual([restarted.config.lastReload.outcome, restarted.pods.enrolled], ['last-good', 1])
    assert.match(await agent.log(), /NOT READY/)

    await agent.write({ pods })
    const mended = await agent.waitFor('it is ready again', 20_000, (status) => status.agent.ready)
    assert.deepEqual([mended.config.lastReload.outcome, mended.config.generation], ['unchanged', good.config.generation])
  })

  test('keys that need a restart are refused by name, together with the rest of the change', async () => {
    await using agent = await Agent.start({ pods: [{ name: 'pod', netns: pod.netns }] })
    const before = await agent.status()
    const text = await readFile(agent.configFile, 'utf8')
    await writeFile(
      agent.configFile,
      text.replace(/socket: .*/, 'socket: /run/merbridge/other.sock').replace('mesh: istio', 'mesh: istio\noptions: { proxyPort: 15101 }'),
    )
    agent.signal('SIGHUP')
    const after = await agent.waitFor('the reload is refused', 20_000, (status) => status.config.lastReload.outcome === 'refused')
    assert.match(after.config.lastReload.reason ?? '', /control\.socket/)
    assert.equal(after.config.generation, before.config.generation)
  })

  test('a ConfigMap: the kubelet swaps ..data, and a burst of swaps ends at the last one', async () => {
    const volume = join(directory, 'volume')
    const write = async (name: string, text: string) => {
      await mkdir(join(volume, name), { recursive: true })
      await writeFile(join(volume, name, 'config.yaml'), text)
      await symlink(name, join(volume, '..data_tmp'))
      await rename(join(volume, '..data_tmp'), join(volume, '..data'))
    }
    await write('..one', config())
    await symlink('..data/config.yaml', join(volume, 'config.yaml'))
    const command = (argv: readonly string[]) => execute(program, [...argv, '--config', join(volume, 'config.yaml'), '--output', 'json'])
    const running = execute(program, ['run', '--config', join(volume, 'config.yaml'), '--state-dir', join(directory, 'state')])
    const status = async () => {
      const { code, stdout } = await command(['status'])
      return code === 0 ? JSON.parse(stdout) : undefined
    }
    const first = await until('the agent answers', 20_000, status)
    for (let i = 0; i < 20; i++) await write(`..swap${i}`, config(`options: { proxyPort: ${15100 + i} }\n`))
    await until('the last swap is in force', 10_000, async () => {
      const [shown] = JSON.parse((await command(['pods'])).stdout)
      return shown.rules.some((rule: { then: string }) => rule.then.includes(':15119')) ? true : undefined
    })
    const last = await status()
    assert.ok(last.config.generation - first.config.generation < 20, 'bursts are coalesced')
    assert.equal((await command(['detach', '--bypass'])).code, 0)
    assert.equal((await running).code, 0, 'detach stops the agent')
  })
})
