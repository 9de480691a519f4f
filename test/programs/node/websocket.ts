/** websocket.ts URL SOCKETS FRAMES: each socket sends that many random frames, as fast as it can, and compares what comes back. */
import { randomBytes, randomInt } from 'node:crypto'

const [url = '', sockets = '', frames = ''] = process.argv.slice(2)

const size = () => randomInt([1, 200, 5_000, 150_000][randomInt(4)] ?? 1) + 1
const frame = () => (randomInt(2) === 0 ? randomBytes(size()) : randomBytes(size()).toString('base64'))

function exchange(number: number): Promise<number> {
  const sent = Array.from({ length: Number(frames) }, frame)
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url)
    let count = 0
    socket.binaryType = 'arraybuffer'
    socket.onopen = () => {
      for (const each of sent) socket.send(each)
    }
    socket.onmessage = ({ data }: { data: string | ArrayBuffer }) => {
      const expected = sent[count]
      const same = typeof data === 'string' ? data === expected : expected instanceof Buffer && expected.equals(Buffer.from(data))
      if (!same) reject(new Error(`socket ${number}, frame ${count}: sent ${expected?.length} and got another`))
      if (++count === sent.length) socket.close()
    }
    socket.onerror = () => reject(new Error(`socket ${number}: error after ${count} frames`))
    socket.onclose = ({ code }) =>
      count === sent.length ? resolve(count) : reject(new Error(`socket ${number}: closed (${code}) after ${count} frames`))
  })
}

const counts = await Promise.all(Array.from({ length: Number(sockets) }, (_, number) => exchange(number)))
console.log(`frames ${counts.reduce((sum, count) => sum + count, 0)}`)
