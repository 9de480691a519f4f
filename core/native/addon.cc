// SPDX-License-Identifier: Apache-2.0
// The addon's entry. Everything that lives longer than a call hangs on the environment, so that it can be loaded in several worker threads.
#include "exports.h"
#include "namespaces.h"
#include "watches.h"

struct Instance {
	NamespaceThread namespaces;
	std::shared_ptr<WatchThread> watches = std::make_shared<WatchThread>();
};

NamespaceThread &namespaceThread(Napi::Env env)
{
	return env.GetInstanceData<Instance>()->namespaces;
}

std::shared_ptr<WatchThread> watchThread(Napi::Env env)
{
	return env.GetInstanceData<Instance>()->watches;
}

static Napi::Object initialise(Napi::Env env, Napi::Object exports)
{
	env.SetInstanceData(new Instance);
	exportDescriptors(env, exports);
	exportMaps(env, exports);
	exportBatches(env, exports);
	exportPrograms(env, exports);
	exportLinks(env, exports);
	exportObjects(env, exports);
	exportRingBuffers(env, exports);
	exportNamespaces(env, exports);
	exportWatches(env, exports);
	exportUserNamespaces(env, exports);
	exportProbes(env, exports);
	exportSockets(env, exports);
	exportSystem(env, exports);
	return exports;
}

NODE_API_MODULE(merbridge, initialise)
