/** The process of a plugin never outlives the agent, whatever either of them does at that moment. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { packageRoot } from '../../core/root.ts'
import { PluginDirectory, pluginText } from './plugin-files.ts'

const module = (path: string) => JSON.stringify(join(packageRoot(), path))

/** Loads the plugin, says so, and asks it about a pod when it gets a line. */
const agentOf = (directory: string, file: string) => `
  const { pluginSource } = await import(${module('core/plugins.ts')})
  const { describe } = await import(${module('core/describe.ts')})
  const plugin = await pluginSource([${JSON.stringify(directory)}]).load({ path: ${JSON.stringify(file)} })
  process.stdin.once('data', () => {
    try {
      describe(plugin, { name: 'web', namespace: { name: 'default', labels: {}, annotations: {} }, labels: {}, annotations: {}, containers: [], addresses: [] }, {})
    } catch {}
  })
  process.stdout.write('loaded\\n')
`

describe("a plugin's process", () => {
  let directory: PluginDirectory
  before(() => {
    directory = new PluginDirectory()
  })
  after(() => directory?.[Symbol.dispose]())

  async function start(text: string): Promise<{ agent: ChildProcess; children: readonly number[] }> {
    const file = directory.write('acme.ts', text)
    const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', agentOf(directory.path, file)]
    const agent = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    assert.ok(agent.stdout)
    const [line] = await once(createInterface({ input: agent.stdout }), 'line')
    assert.equal(line, 'loaded')
    const children = globSync(`/proc/${agent.pid}/task/*/children`).flatMap((path) =>
      readFileSync(path, 'utf8').trim().split(' ').filter(Boolean).map(Number),
    )
    assert.equal(children.length, 1)
    return { agent, children }
  }

  const ended = (pid: number) => !existsSync(`/proc/${pid}`) || / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))

  async function allEnd(agent: ChildProcess, children: readonly number[], milliseconds: number): Promise<void> {
    const deadline = performance.now() + milliseconds
    const left = () => children.filter((pid) => !ended(pid))
    while ((agent.exitCode === null && agent.signalCode === null) || left().length > 0) {
      if (performance.now() > deadline) {
        for (const pid of left()) process.kill(pid, 'SIGKILL')
        agent.kill('SIGKILL')
        assert.fail(`after ${milliseconds} ms: agent ${agent.exitCode ?? agent.signalCode}, plugin ${left()}`)
      }
      await sleep(20)
    }
  }

  it('ends with an agent that has nothing more to do', async () => {
    const { agent, children } = await start(pluginText())
    agent.stdin?.end()
    await allEnd(agent, children, 5000)
    assert.equal(agent.exitCode, 0)
  })

  it('ends with an agent that is killed', async () => {
    const { agent, children } = await start(pluginText())
    agent.kill('SIGKILL')
    await allEnd(agent, children, 5000)
  })

  it('ends with an agent that is killed while the plugin hangs', async () => {
    const { agent, children } = await start(pluginText('for (;;);'))
    agent.stdin?.write('ask\n')
    await sleep(300)
    agent.kill('SIGKILL')
    await allEnd(agent, children, 8000)
  })

  it('has no environment, and may neither write nor start anything', async () => {
    const { agent, children } = await start(pluginText())
    const [pid] = children
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    assert.ok(words.includes('--permission') && words.includes('--max-old-space-size=128'), words.join(' '))
    assert.deepEqual(
      readFileSync(`/proc/${pid}/environ`, 'utf8')
        .split('\0')
        .filter((variable) => variable !== '' && !variable.startsWith('NODE_CHANNEL_')),
      [],
    )
    agent.stdin?.end()
    await allEnd(agent, children, 5000)
  })
})
