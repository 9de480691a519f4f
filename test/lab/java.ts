/** Java programs of the tests: compiled from source into a directory that is removed with the lab. */
import { once } from 'node:events'
import { globSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { bounded } from './cleanup.ts'
import type { LabPod } from './net.ts'
import { missing } from './packages.ts'
import { kill, must } from './process.ts'

export const javaMissing = missing('java', 'ecj')

/** Quick to start, and small beside the other programs of a test. */
const flags = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto', '-Xmx128m']

export async function compileJava(directory: string): Promise<string> {
  const classes = join(directory, 'java')
  await mkdir(classes)
  const sources = globSync(resolve(import.meta.dirname, 'java/*.java'))
  await must(['ecj', '-11', '-warn:none', '-proc:none', '-d', classes, ...sources], { timeoutMs: 120_000 })
  return classes
}

export const java = (classes: string, ...words: readonly string[]): string[] => ['java', ...flags, '-cp', classes, ...words]

/** Resolves when the server listens. */
export async function startJavaServer(pod: LabPod, classes: string, port: number): Promise<AsyncDisposable> {
  const child = pod.spawn(java(classes, 'Server', String(port)))
  const ready = child.stdout === null ? Promise.resolve() : once(child.stdout, 'data')
  if (!(await bounded(ready, 30_000)) || child.exitCode !== null) throw new Error(`the Java server of ${pod.name} did not start`)
  return { [Symbol.asyncDispose]: () => kill(child) }
}
