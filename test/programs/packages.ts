/** Programs that scripts/program-packages.sh has unpacked below .cache/programs, and those that are installed. */
import { existsSync, globSync } from 'node:fs'
import { join } from 'node:path'
import { javaMissing } from '../lab/java.ts'
import { must } from '../lab/process.ts'

const cache = join(import.meta.dirname, '../../.cache/programs')

export const packages = join(cache, 'root')
export const goProgram = join(cache, 'go')
export const javaClasses = join(cache, 'java')

/** Program -> where it is in `packages`; of more than one, the first. */
const places = {
  nginx: 'usr/sbin/nginx',
  redis: 'usr/bin/redis-server',
  postgresql: 'usr/lib/postgresql/*/bin',
  iperf3: 'usr/bin/iperf3',
  h2load: 'usr/bin/h2load',
  grpc: 'usr/lib/python3/dist-packages/grpc',
  websockets: 'usr/lib/python3/dist-packages/websockets',
} as const

export type Packaged = keyof typeof places

/** Fetches what is not there yet. */
export const fetchPrograms = () => must(['sh', join(import.meta.dirname, '../../scripts/program-packages.sh')], { timeoutMs: 600_000 })

export const absent = (...names: readonly Packaged[]): string | false => {
  const gone = names.filter((name) => globSync(places[name], { cwd: packages }).length === 0)
  return gone.length > 0 && `${gone.join(' and ')} could not be fetched (scripts/program-packages.sh says why)`
}

export const goAbsent = (): string | false => !existsSync(goProgram) && 'no Go compiler (apt-get install golang-go; scripts/mesh-packages.sh does it)'

export const javaAbsent = (): string | false =>
  javaMissing || (!existsSync(javaClasses) && 'the Java program could not be compiled (scripts/program-packages.sh says why)')

/** The path of a program below a copy of `packages`. */
export const place = (root: string, name: Packaged): string => join(root, globSync(places[name], { cwd: root })[0] ?? places[name])

/** Words before a packaged program, so that it finds its libraries and modules. */
export const packaged = (root: string): string[] => [
  'env',
  `LD_LIBRARY_PATH=${globSync(join(root, 'usr/lib/*-linux-gnu*')).join(':')}`,
  `PYTHONPATH=${join(root, 'usr/lib/python3/dist-packages')}`,
]
