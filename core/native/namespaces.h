// SPDX-License-Identifier: Apache-2.0
// Network namespaces. setns(2) is per thread: only the thread of this file ever leaves the namespace that the process started in.
#pragma once

#include "job.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

// The thread's name: a program that tells the cookies of namespaces looks for it (bpf/cookie.bpf.c).
constexpr char COOKIE_THREAD[] = "merbridge-netns";

// Opens a file of nsfs that is a network namespace; another file is Failure EINVAL. Does not hang at a FIFO.
int openNamespace(const std::string &path, const std::string &operation);

// ESTALE when the namespace is not the one with this inode; 0: it may be any.
void requireInode(int netns, uint32_t inode, const std::string &operation);

// Runs `work` inside the namespace behind `path`, on the namespace thread only.
void inside(const std::string &path, const std::string &operation, const std::function<void(int netns)> &work);

// The same inside a new namespace, which ends with the work.
void insideNew(const std::string &operation, const std::function<void()> &work);

// One per JavaScript environment; it starts with the first job and ends with the environment.
class NamespaceThread
{
      public:
	~NamespaceThread();
	void submit(Napi::Env env, std::unique_ptr<Job> job);
	void stop();

      private:
	static void settle(Napi::Env env, Napi::Function, NamespaceThread *self, Job *job);
	using Completion = Napi::TypedThreadSafeFunction<NamespaceThread, Job, settle>;
	void start(Napi::Env env);
	void work();

	std::mutex mutex;
	std::condition_variable wake;
	std::deque<std::unique_ptr<Job>> queue;
	bool stopping = false;
	size_t pending = 0; // touched by the event loop only
	Completion completion;
	std::thread thread;
};

NamespaceThread &namespaceThread(Napi::Env env);

template <class Result>
Napi::Value onNamespaceThread(Napi::Env env, typename PromiseJob<Result>::Work work, typename PromiseJob<Result>::Finish finish)
{
	auto job = std::make_unique<PromiseJob<Result>>(env, std::move(work), std::move(finish));
	Napi::Value promise = job->promise();
	namespaceThread(env).submit(env, std::move(job));
	return promise;
}
