/** Who connects in the pod: the app, the proxy, and all that may be taken for one of them. */
import type { Layout, Who } from './mesh.ts'
import type { Identity } from './probe.ts'

export const root: Identity = { uid: 0, gid: 0 }
const app: Identity = { uid: 1000, gid: 1000 }

type Client = Omit<Who, 'name'> & {
  /** Tried with a few destinations only. */
  readonly rare?: true
}

export type Clients = Readonly<Record<string, Client>>

/** A mark that means nothing where the proxy has none. */
const SOME_MARK = 0x539

/** Of the mark's neighbours one differs in the bits that meshes look at, one beyond them. */
function marked({ proxy, mark }: Layout): Clients {
  if (mark === undefined) return { markedApp: { as: app, mark: SOME_MARK, rare: true } }
  return {
    markedApp: { as: app, mark, rare: true },
    markedRoot: { as: root, mark, rare: true },
    almostMarked: { as: app, mark: mark + 1, rare: true },
    markedBeyond: { as: app, mark: mark + 0x1000, rare: true },
    proxyWithoutMark: { as: proxy, rare: true },
    rootThenMarked: { as: app, creator: root, mark, rare: true },
  }
}

/** `more`: whom the rules name. */
export function clientsOf(layout: Layout, more: readonly Who[] = []): Clients {
  const { uid, gid } = layout.proxy
  const proxy = { as: layout.proxy, ...(layout.mark === undefined ? {} : { mark: layout.mark }) }
  return {
    app: { as: app },
    proxy,
    proxyGid: { as: { uid: 0, gid } },
    proxyUid: { as: { uid, gid: 0 } },
    root: { as: root },
    effectiveProxy: { as: { uid, gid: app.gid, real_uid: app.uid } },
    effectiveApp: { as: { ...app, real_uid: uid } },
    rootThenProxy: { as: layout.proxy, creator: root },
    proxyThenRoot: { as: root, creator: layout.proxy },
    proxyThenApp: { as: app, creator: layout.proxy },
    appThenProxy: { as: layout.proxy, creator: app },
    ...marked(layout),
    ...Object.fromEntries(more.map(({ name, ...who }) => [name, { ...who, rare: true as const }])),
  }
}

/** The two that everything is tried with. */
export const isMain = (name: string) => name === 'app' || name === 'proxy'
