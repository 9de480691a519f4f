/** Nodes of other shapes: cgroup v2 in several places, hidden, in a cgroup namespace. Each in mount and cgroup namespaces of its own. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type AttachPoint, cgroupMounts } from '../../core/cgroup.ts'
import { Agent, execute, until } from '../lab/agent.ts'
import { kill, Lab, type LabPod } from '../lab/net.ts'
import { startApp, startProxy } from '../mesh/sidecar.ts'
import { connectOnce } from '../parity/probe.ts'
import { app } from '../parity/shape.ts'
import { reached } from './fixture.ts'

/** The shape is a shell script; $t is an empty tmpfs, $v2 the node's own mount, and `forget` unmounts what the node has. */
async function words(directory: string, cgroup: string, shape: string, flags = '--mount'): Promise<string[]> {
  const own = cgroupMounts(await readFile('/proc/self/mountinfo', 'utf8')).map(({ path }) => path)
  const script = [
    `t='${directory}' v2='${own[0]}' sub='${cgroup}'`,
    `forget() { for each in ${own.map((path) => `'${path}'`).join(' ')}; do umount -l "$each"; done; }`,
    'mount -t tmpfs none "$t"',
    shape,
    'exec "$@"',
  ].join('\n')
  const join = ['sh', '-c', 'echo 0 >"$0" && exec "$@"', `${cgroup}/cgroup.procs`]
  return [...join, 'unshare', ...flags.split(' '), 'sh', '-ec', script, 'sh']
}

describe('nodes of other shapes', { timeout: 240_000 }, () => {
  let lab: Lab
  let elsewhere: Lab
  let pod: LabPod
  let other: LabPod
  let outsider: LabPod
  let target: LabPod
  let directory: string
  let group: string

  before(async () => {
    lab = await Lab.create('cgroups', { cgroup: true })
    elsewhere = await Lab.create('cgroups', { subnet: '10.78.0' }) // its processes are in the cgroup of this test
    ;[pod, other] = [await lab.pod('pod'), await lab.pod('other')]
    ;[outsider, target] = [await elsewhere.pod('outsider'), await elsewhere.pod('target')]
    directory = await mkdtemp(join(tmpdir(), 'merbridge-test-'))
    group = lab.cgroup ?? assert.fail('no cgroup')
  })
  after(async () => {
    await elsewhere?.close()
    await lab?.close()
    await rm(directory, { recursive: true, force: true })
  })

  describe('the place that auto finds', () => {
    async function auto(shape: string, flags?: string): Promise<AttachPoint> {
      const module = resolve(import.meta.dirname, '../../core/cgroup.ts')
      const script = `import { attachCgroup } from '${module}'; console.log(JSON.stringify(attachCgroup('auto')))`
      const [file = '', ...rest] = [...(await words(directory, group, shape, flags)), process.execPath, '--input-type=module', '-e', script]
      const { stdout, stderr } = await execute(file, rest)
      if (stdout === '') throw new Error(stderr)
      return JSON.parse(stdout)
    }

    const bind = (path: string) => `mkdir -p "$t/${path}"; mount --bind "$sub" "$t/${path}"`
    const mount = (path: string) => `mkdir -p "$t/${path}"; mount -t cgroup2 none "$t/${path}"`
    const hide = (path: string) => `mount -t tmpfs none "$t/${path}"`

    test('three mounts, the first of a sub-directory', async () => {
      const { path, reach, detail } = await auto([bind('first'), mount('whole'), bind('third'), 'forget'].join('\n'))
      assert.deepEqual([path, reach, detail], [`${directory}/whole`, 'everything', `${directory}/whole (root of the hierarchy)`])
    })

    test('mounts that are hidden, by one at the same path, by one at a parent, by a part of the hierarchy', async () => {
      const hidden = [mount('same'), hide('same'), mount('parent/child'), hide('parent'), mount('part'), bind('part')]
      const { path, reach } = await auto([...hidden, mount('seen'), 'forget'].join('\n'))
      assert.deepEqual([path, reach], [`${directory}/seen`, 'everything'])
      await assert.rejects(auto([...hidden, 'forget'].join('\n')), /no mount of cgroup v2 shows its root.*same/)
    })

    test("in a cgroup namespace: the node's mount, whose root is above", async () => {
      const { path, reach, cgroup } = await auto(
        [mount('own'), 'mkdir "$t/node"; mount --bind "$v2" "$t/node"; forget'].join('\n'),
        '--mount --cgroup',
      )
      assert.deepEqual([path, reach, cgroup], [`${directory}/node`, 'everything', '/..'])
    })

    test('in a cgroup namespace without it: the root of the namespace, and that is said', async () => {
      const { path, reach, detail } = await auto([mount('own'), 'forget'].join('\n'), '--mount --cgroup')
      assert.deepEqual([path, reach], [`${directory}/own`, 'namespace'])
      assert.match(detail, /own \(root of this cgroup namespace only: processes outside are not intercepted\)/)
    })
  })

  describe('an agent in a cgroup namespace', () => {
    const config = async (pods: readonly LabPod[]) => ({
      pods: pods.map(({ name, netns }) => ({ name, netns })),
      around: await words(directory, group, 'mkdir "$t/own"; mount -t cgroup2 none "$t/own"; forget', '--mount --cgroup'),
    })

    /** A process in the pod's network namespace that is in the cgroup of this test. */
    async function strayIn({ netns }: LabPod): Promise<ChildProcess> {
      const child = spawn('nsenter', [`--net=${netns}`, '--', 'sleep', '120'], { stdio: 'ignore' })
      const comm = () => readFile(`/proc/${child.pid}/comm`, 'utf8')
      await until('it sleeps', 5000, async () => ((await comm()) === 'sleep\n' ? true : undefined))
      return child
    }

    test('pods inside are intercepted, and pods without processes are no trouble', async () => {
      await using _proxy = await startProxy(pod)
      await using _app = await startApp(pod)
      await using agent = await Agent.start(await config([pod, other]))
      assert.equal(reached(await connectOnce(pod, app, ['10.77.0.200', 8080])), 'pod:15001')
      const { agent: state, pods, kernel } = await agent.status()
      assert.deepEqual([state.ready, pods.warnings], [true, 0])
      assert.match(kernel.features.find(({ name }) => name === 'cgroup v2')?.detail ?? '', /this cgroup namespace only/)
    })

    test('a pod whose processes are all outside: a warning that names one, and not ready until they are gone', async () => {
      await using proxy = await startProxy(outsider)
      await using _app = await startApp(target)
      await using agent = await Agent.start(await config([pod, outsider]), { wait: 'answering' })
      const { agent: state } = await agent.waitFor('both are enrolled', 20_000, ({ pods }) => pods.enrolled === 2)
      assert.equal(state.ready, false)
      assert.match(state.notReady.join(), /no process of default\/outsider runs below .*own/)
      const warnings = (await agent.pods()).map(({ warnings: each }) => each.join())
      assert.match(warnings[1] ?? '', /process \d+ \(python3[^)]*\) runs in cgroup \/\.\..*: outside of .*own.* not intercepted; .*host's cgroup/)
      assert.equal(warnings[0], '')
      assert.equal(reached(await connectOnce(outsider, app, [target.address, 8080])), 'target:app', 'the warning is true')
      await proxy.stop()
      await agent.waitFor('it is ready', 20_000, (status) => status.agent.ready && status.pods.warnings === 0)
      const log = await agent.log()
      assert.equal(log.split('where the programs are attached').length, 2, 'logged once')
    })

    test('a single process outside is a warning only', async () => {
      await using _proxy = await startProxy(pod)
      const stray = await strayIn(pod)
      try {
        await using agent = await Agent.start(await config([pod]))
        const [view] = await agent.pods()
        assert.match(view?.warnings.join() ?? '', new RegExp(`process ${stray.pid} \\(sleep\\) runs in cgroup /\\.\\.: outside of`))
        const { agent: state, pods } = await agent.status()
        assert.deepEqual([state.ready, pods.warnings], [true, 1])
      } finally {
        await kill(stray)
      }
    })

    test('one that is named in the config, below the root', async () => {
      const part = join(group, 'part')
      await mkdir(part)
      await using _proxy = await startProxy(pod)
      try {
        await using agent = await Agent.start({ pods: [{ name: pod.name, netns: pod.netns }], cgroup: part }, { wait: 'answering' })
        await agent.waitFor('the pod is enrolled', 20_000, ({ pods }) => pods.enrolled === 1)
        const [view] = await agent.pods()
        assert.match(view?.warnings.join() ?? '', /outside of .*part.*set attach\.cgroup to auto/)
        assert.equal((await agent.status()).agent.ready, false)
      } finally {
        await rmdir(part)
      }
    })
  })
})
