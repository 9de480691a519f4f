// SPDX-License-Identifier: Apache-2.0
// Netlink sockets that JavaScript waits for: one native thread for all of them.
#pragma once

#include "descriptor.h"

#include <thread>
#include <unordered_map>

class WatchThread;

// Lives on the event loop.
class Watch
{
      public:
	Watch(Napi::Env env, std::shared_ptr<WatchThread> thread, SharedFile socket, Napi::Function callback);
	~Watch();
	Watch(const Watch &) = delete;
	Watch &operator=(const Watch &) = delete;

	// Empties the socket and lets the thread tell of what comes from now on. Only then the callback is called, so that it misses nothing.
	void deliver();
	// Without a callback from now on; twice is a no-op.
	void end();
	int number() const
	{
		return socket ? socket->number : -1;
	}

      private:
	std::shared_ptr<WatchThread> thread;
	SharedFile socket;
	Napi::FunctionReference callback;
	uint64_t id;
};

// One per JavaScript environment; it starts with the first watch and ends with the environment. The thread itself knows nothing but descriptors and
// the numbers of watches; everything else is touched by the event loop only, so that there is nothing to lock. Watches keep a reference, because
// the order in which an environment drops its values at the end is not ours.
class WatchThread
{
      public:
	~WatchThread();
	// -> the watch's number, never used twice
	uint64_t add(Napi::Env env, int socket, Watch *watch);
	// The thread tells of a socket once, then no more until this.
	void arm(uint64_t id, int socket);
	void remove(uint64_t id, int socket);
	void stop();

      private:
	static void tell(Napi::Env env, Napi::Function, WatchThread *self, void *id);
	using Delivery = Napi::TypedThreadSafeFunction<WatchThread, void, tell>;
	void start(Napi::Env env);
	void run();

	SharedFile poller;
	SharedFile wake;
	std::unordered_map<uint64_t, Watch *> watches;
	uint64_t last = 0;
	bool stopped = false;
	Delivery delivery;
	std::thread thread;
};

std::shared_ptr<WatchThread> watchThread(Napi::Env env);
