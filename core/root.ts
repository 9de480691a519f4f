import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))

/** In the package this file is dist/core/root.js, in a checkout core/root.ts. */
const compiled = import.meta.url.endsWith('.js')

/** The directory that holds package.json: the checkout, or the installed package. */
export function packageRoot(): string {
  return compiled ? dirname(dirname(here)) : dirname(here)
}

/** Path of a BPF object such as 'merbridge.bpf.o': built beside the sources in a checkout, shipped under dist/ in the package. */
export function objectPath(name: string): string {
  return join(packageRoot(), compiled ? 'dist' : 'build', 'bpf', name)
}

export function packageVersion(): string {
  const manifest: { readonly version?: string } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8'))
  return manifest.version ?? 'unknown'
}
