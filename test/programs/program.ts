/** What each program of this directory is to the suite. */
import assert from 'node:assert/strict'
import { type Answer, call } from './call.ts'
import type { File, Site, Way } from './site.ts'

export interface Exercise {
  readonly name: string
  /** `what` says which program and exercise it is, for messages. */
  run(site: Site, way: Way, what: string): Promise<void>
}

export interface Program {
  readonly name: string
  /** Why it cannot run here */
  readonly missing: string | false
  /** Starts its servers. */
  start(site: Site): Promise<void>
  readonly exercises: readonly Exercise[]
  /** What must be true after all of them */
  readonly afterwards?: Readonly<Record<string, (site: Site) => Promise<void>>>
}

export const curl = ['curl', '--silent', '--show-error', '--fail', '--noproxy', '*']

/** An exercise that downloads a file with curl. */
export const download = (name: string, url: (way: Way) => string, file: 'small' | 'medium' | 'big', ...flags: readonly string[]): Exercise => ({
  name,
  run: async (site, way, what) => {
    const { bytes, sha256 } = await call(site, { what, argv: [...curl, ...flags, `${url(way)}/${site[file].name}`] })
    expectFile(site, what, site[file], { bytes, sha256 })
  },
})

/** An exercise that posts a file and gets it back. */
export const echo = (name: string, url: (way: Way) => string, ...flags: readonly string[]): Exercise => ({
  name,
  run: async (site, way, what) => {
    const argv = [...curl, ...flags, '--expect100-timeout', '5', '--request', 'POST', '--upload-file', site.medium.path, `${url(way)}/echo`]
    expectFile(site, what, site.medium, await call(site, { what, argv }))
  },
})

type Content = Pick<Answer, 'bytes' | 'sha256'>

/** Compares what a client got with a file, or with what has its size and checksum. */
export function expectFile({ mode }: Site, what: string, file: Pick<File, 'size' | 'sha256'>, { bytes, sha256 }: Content): void {
  const told = bytes === file.size ? `${bytes} bytes, but not those that were sent` : `${bytes} bytes instead of ${file.size}`
  assert.equal(sha256, file.sha256, `${what}, acceleration ${mode ?? 'not set'}: ${told}`)
}

/** `program` is a client that checks everything itself and says how many requests it made. */
export async function expectRequests(
  site: Site,
  what: string,
  program: { readonly argv: readonly string[]; readonly root?: boolean },
  requests: number,
) {
  const { text } = await call(site, { what, ...program })
  assert.equal(text.trim(), `requests ${requests}`, what)
}
