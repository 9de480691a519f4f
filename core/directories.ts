/** Makes a directory and those above it. Node's own recursive mkdir never ends where the file system refuses with ENOENT, as /proc does. */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'

/** Twice as deep as any path that the kernel takes in one piece. */
const deepest = 4096

/** Throws the system's error. Directories that exist keep their mode. */
export function makeDirectory(path: string, mode: number): void {
  const missing: string[] = []
  for (let next = path; missing.length < deepest; next = dirname(next)) {
    try {
      mkdirSync(next, { mode })
      break
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EEXIST') break
      if (code !== 'ENOENT' || dirname(next) === next) throw error
      missing.push(next)
    }
  }
  for (const next of missing.reverse()) mkdirSync(next, { mode })
}
