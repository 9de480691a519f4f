/** The app in the server pod: answers with the source address that it saw. node - PORT */
import { createServer } from 'node:http'

createServer((request, response) => {
  const body = JSON.stringify({ source: request.socket.remoteAddress })
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length })
  response.end(body)
}).listen(Number(process.argv[2]), '0.0.0.0')
