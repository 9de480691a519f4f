/** Pods whose rules a test writes itself, once as an interception and once for iptables. */
import type { AgentConfig } from '../../core/agent.ts'
import type { AnyPlugin } from '../../core/describe.ts'
import type { Interception } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import type { LabPod } from '../lab/net.ts'
import type { DatapathUnderTest } from './fixture.ts'

/** The pods as a config lists them, with these rules instead of a mesh's. */
export function configOf(datapath: DatapathUnderTest, pods: readonly LabPod[], interception: Interception): AgentConfig {
  const plugin = { ...plugins.istio, describe: () => interception } as AnyPlugin
  const config = datapath.config(pods)
  return { ...config, meshes: config.meshes.map((mesh) => ({ ...mesh, plugin })) }
}
