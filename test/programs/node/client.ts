/** client.ts URL CLIENTS REQUESTS SIZE: each client posts that many random bodies of up to SIZE bytes to URL/echo over a kept connection. */
import { randomFillSync, randomInt } from 'node:crypto'
import { Agent, request } from 'node:http'
import { buffer } from 'node:stream/consumers'

const [url = '', clients = '', requests = '', size = ''] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true, maxSockets: Number(clients) })

function post(body: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const call = request(`${url}/echo`, { method: 'POST', agent, headers: { 'content-length': body.length } }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`))
      buffer(response).then(resolve, reject)
    })
    call.on('error', reject)
    call.end(body)
  })
}

async function client(number: number): Promise<number> {
  for (let round = 0; round < Number(requests); round++) {
    const body = randomFillSync(Buffer.alloc(randomInt(1, Number(size) + 1)))
    const answer = await post(body)
    if (!answer.equals(body)) throw new Error(`client ${number}, request ${round}: sent ${body.length} bytes and got others, ${answer.length}`)
  }
  return Number(requests)
}

const counts = await Promise.all(Array.from({ length: Number(clients) }, (_, number) => client(number)))
console.log(`requests ${counts.reduce((sum, count) => sum + count, 0)}`)
agent.destroy()
