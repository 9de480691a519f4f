/** http2.ts ORIGIN PATH STREAMS ROUNDS: gets PATH on that many streams of one connection at once, again and again; prints how many of which SHA-256. */
import { createHash } from 'node:crypto'
import { connect } from 'node:http2'
import { buffer } from 'node:stream/consumers'

const [origin = '', path = '', streams = '', rounds = ''] = process.argv.slice(2)
const session = connect(origin)
const seen = new Map<string, number>()

async function get(): Promise<void> {
  const stream = session.request({ ':path': path })
  const sha256 = createHash('sha256')
    .update(await buffer(stream))
    .digest('hex')
  seen.set(sha256, (seen.get(sha256) ?? 0) + 1)
}

for (let round = 0; round < Number(rounds); round++) await Promise.all(Array.from({ length: Number(streams) }, get))
session.close()
for (const [sha256, count] of seen) console.log(`${count} ${sha256}`)
