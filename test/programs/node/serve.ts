/** serve.ts PORT DIRECTORY: the directory's files, and POST /echo, which is request.pipe(response). */
import { createReadStream, statSync } from 'node:fs'
import { createServer } from 'node:http'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream'

const [port = '', directory = ''] = process.argv.slice(2)

createServer((request, response) => {
  const { method, url = '/' } = request
  if (method === 'POST') {
    const length = request.headers['content-length']
    response.writeHead(200, length === undefined ? {} : { 'content-length': length })
    request.pipe(response)
    return
  }
  const file = join(directory, basename(url))
  response.writeHead(200, { 'content-length': statSync(file).size })
  pipeline(createReadStream(file), response, () => {})
}).listen(Number(port), '0.0.0.0')
