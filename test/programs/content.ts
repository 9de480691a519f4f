/** Random content with its checksum. */
import { createCipheriv, createHash, randomBytes } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'

const BLOCK = 1 << 20

/** Writes `size` bytes that nobody can compress or guess; returns their SHA-256. */
export function writeRandom(path: string, size: number): string {
  const stream = createCipheriv('aes-128-ctr', randomBytes(16), randomBytes(16))
  const zeros = Buffer.alloc(BLOCK)
  const hash = createHash('sha256')
  const file = openSync(path, 'w', 0o644)
  try {
    for (let left = size; left > 0; left -= BLOCK) {
      const block = stream.update(left < BLOCK ? zeros.subarray(0, left) : zeros)
      hash.update(block)
      writeSync(file, block)
    }
  } finally {
    closeSync(file)
  }
  return hash.digest('hex')
}
