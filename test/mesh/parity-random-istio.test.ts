import { istioMesh } from '../meshes/istio/mesh.ts'
import { randomSuite } from '../parity/random/suite.ts'

randomSuite(istioMesh)
