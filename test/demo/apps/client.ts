/**
 * The app in the client pod. Prints what it saw of each request, as one line of JSON.
 *
 *     node - HOST PORT COUNT PAUSE_MS keep|new
 */
import { Agent, get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const [host, port, count, pause, connections] = process.argv.slice(2)
const agent = new Agent({ keepAlive: connections === 'keep', maxSockets: 1 })

/** `peer` and `local` are getpeername() and getsockname() of the connection; `error` instead of all when it failed. */
function request(): Promise<object> {
  const { promise, resolve } = Promise.withResolvers<object>()
  const call = get({ host, port, agent, timeout: 5_000 }, (response) => {
    const { remoteAddress, remotePort, localAddress, localPort } = response.socket
    const names = { peer: `${remoteAddress?.includes(':') ? `[${remoteAddress}]` : remoteAddress}:${remotePort}`, local: localAddress, localPort }
    let body = ''
    response.setEncoding('utf8')
    response.on('data', (text) => {
      body += text
    })
    response.on('end', () => {
      const { statusCode: status, headers } = response
      resolve({ status, ...names, headers, ...(status === 200 && { body: JSON.parse(body) }) }) // what a sidecar answers itself is no JSON
    })
    response.on('error', (error) => resolve({ error: error.message }))
  })
  call.on('timeout', () => call.destroy(new Error('no answer within 5 s')))
  call.on('error', (error) => resolve({ error: error.message }))
  return promise
}

process.stdout.on('error', () => process.exit(1)) // the demo was interrupted: nobody reads

for (let n = 0; n < Number(count); n++) {
  process.stdout.write(`${JSON.stringify(await request())}\n`)
  await sleep(Number(pause))
}
agent.destroy()
