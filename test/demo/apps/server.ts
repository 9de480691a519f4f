/** The app in the server pod: answers with the source address that it saw. node - PORT HOST... */
import { createServer } from 'node:http'

const [port, ...hosts] = process.argv.slice(2)

for (const host of hosts) {
  createServer((request, response) => {
    const body = JSON.stringify({ source: request.socket.remoteAddress })
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length })
    response.end(body)
  }).listen({ port: Number(port), host, ipv6Only: true })
}
