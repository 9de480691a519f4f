/** Programs that only some tests need. scripts/mesh-packages.sh installs them before the ring `mesh`; where one cannot be had, its tests are skipped. */
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'

/** Program -> Debian package */
const packages = {
  dig: 'bind9-dnsutils',
  ecj: 'ecj',
  gcc: 'gcc',
  go: 'golang-go',
  haproxy: 'haproxy',
  java: 'default-jre-headless',
  'musl-gcc': 'musl-tools',
} as const

export type OptionalProgram = keyof typeof packages

/** An ordinary user's PATH has no sbin. */
const directories = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']

function installed(program: string): boolean {
  return directories.some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Why a test that needs these programs is skipped; false: it is not. */
export function missing(...programs: readonly OptionalProgram[]): string | false {
  const absent = programs.filter((program) => !installed(program))
  if (absent.length === 0) return false
  const names = absent.map((program) => packages[program]).join(' ')
  return `${absent.join(' and ')} not installed (apt-get install ${names}; scripts/mesh-packages.sh does it, or says why it cannot)`
}
