/** The kernel's own figures: a process that wants more memory than its cgroup has is pressure, and its end is calm. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { PressureWatch } from '../../core/acceleration/pressure.ts'
import { kill } from '../lab/process.ts'

/** Far below those of the agent: the rest of this node shall not suffer. */
const levels = { stalled: 0.5, calm: 0.4, hits: 100, calmFor: 2000 }
const limit = 16 << 20

function cgroupWithLimit(): string {
  const name = `merbridge-greedy-${process.pid}`
  const old = existsSync('/sys/fs/cgroup/memory/tasks')
  const path = join(old ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup', name)
  if (!old) writeFileSync('/sys/fs/cgroup/cgroup.subtree_control', '+memory')
  mkdirSync(path)
  writeFileSync(join(path, old ? 'memory.limit_in_bytes' : 'memory.max'), String(limit))
  return path
}

async function removed(cgroup: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    try {
      return rmdirSync(cgroup)
    } catch {
      await sleep(50) // the kernel has not let go of the process yet
    }
  }
}

const noPsi = existsSync('/proc/pressure/memory') ? false : 'this kernel has no PSI'

test('memory pressure is seen, and calm after it', { timeout: 180_000, skip: noPsi }, async (t) => {
  const directory = mkdtempSync('/var/tmp/merbridge-greedy-') // on a disk: what lies in memory cannot be taken away from the process
  const cgroup = cgroupWithLimit()
  const watch = new PressureWatch(false, levels)
  const becomes = async (wanted: boolean): Promise<string> => {
    for (let tries = 0; tries < 240; tries++) {
      const { pressed, figure } = watch.look(performance.now())
      if (pressed === wanted) return figure
      await sleep(250)
    }
    return assert.fail(`not within a minute: ${wanted ? 'pressure' : 'calm'}; ${watch.look(performance.now()).figure}`)
  }
  await becomes(false) // of whatever ran before
  const script = ['-c', 'echo 0 >"$0/cgroup.procs" && exec "$@"', cgroup, '/usr/bin/python3', resolve(import.meta.dirname, 'greedy.py')]
  const greedy = spawn('sh', [...script, join(directory, 'file'), '60'], { cwd: '/', stdio: 'inherit' })
  t.after(async () => {
    await kill(greedy)
    await removed(cgroup)
    rmSync(directory, { recursive: true, force: true })
  })
  assert.match(await becomes(true), /^tasks waited for memory in \d+\.\d+ % of the last 10 s \(\/proc\/pressure\/memory;/)
  await kill(greedy)
  await becomes(false)
})
