/** Listeners of either family or both (ends.py), which tell each client what they see of it. */
import { join } from 'node:path'
import { until } from '../lab/agent.ts'
import { kill, type LabPod } from '../lab/net.ts'

export const endsProgram = join(import.meta.dirname, 'ends.py')

export interface Listener {
  readonly name: string
  readonly address: string
  readonly port: number
  readonly only6?: boolean
}

export async function serve(pod: LabPod, listeners: readonly Listener[]): Promise<AsyncDisposable> {
  const child = pod.spawn(['/usr/bin/python3', '-I', '-B', endsProgram, 'serve', JSON.stringify(listeners), '1337'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let ready = false
  child.stdout?.on('data', () => (ready = true))
  await until('listeners are there', 5000, async () => (ready ? true : undefined))
  return { [Symbol.asyncDispose]: () => kill(child) }
}
