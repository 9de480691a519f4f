/** pipe.ts PORT HOST HOST_PORT: a TCP proxy that is pipe() in both directions. */
import { createConnection, createServer } from 'node:net'

const [port = '', host = '', hostPort = ''] = process.argv.slice(2)

createServer({ allowHalfOpen: true }, (client) => {
  const server = createConnection({ host, port: Number(hostPort), allowHalfOpen: true })
  client.pipe(server)
  server.pipe(client)
  client.on('error', () => server.destroy())
  server.on('error', () => client.destroy())
}).listen(Number(port), '0.0.0.0')
