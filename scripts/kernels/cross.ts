/** The addon for another architecture than this machine's: libbpf of that architecture, unpacked beside the cross compiler's own libraries. */
import { join } from 'node:path'
import type { Apt } from './apt.ts'
import { cacheDirectory, contentHash, madeDirectory, must } from './place.ts'
import { nodeArchitecture } from './root.ts'

const wanted = ['libbpf-dev', 'libelf-dev', 'zlib1g-dev', 'libbpf1', 'libelf1', 'zlib1g'] as const

/** The compiler brings its own C and C++ libraries; another release's would not fit it. */
const isOurs = (file: string) => /^(libbpf|libelf|zlib1g)/.test(file)

export async function crossBuildAddon(apt: Apt): Promise<void> {
  const files = (await apt.tree(wanted)).filter(isOurs)
  const sysroot = await madeDirectory(join(cacheDirectory, `sysroot-${apt.architecture}`), contentHash(files), async (made) => {
    const debs = join(made, 'debs')
    for (const file of await apt.downloadTree(wanted, debs)) if (isOurs(file.slice(debs.length + 1))) await must(['dpkg-deb', '-x', file, made])
  })
  const architecture = nodeArchitecture[apt.architecture]
  await must(['sh', 'scripts/build-addon.sh', architecture], { env: { ...process.env, CROSS_SYSROOT: sysroot } })
  await must(['sh', 'scripts/build-exchanges.sh', architecture])
}
