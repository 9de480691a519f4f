// SPDX-License-Identifier: Apache-2.0
#include "namespaces.h"
#include "descriptor.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

int openNamespace(const std::string &path, const std::string &operation)
{
	File file(checked(operation, open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)));
	struct statfs filesystem;
	checked(operation, fstatfs(file.number, &filesystem));
	if (filesystem.f_type != NSFS_MAGIC || ioctl(file.number, NS_GET_NSTYPE) != CLONE_NEWNET)
		throw Failure(operation, EINVAL, "not a network namespace");
	return file.release();
}

void requireInode(int netns, uint32_t inode, const std::string &operation)
{
	struct stat status;
	checked(operation, fstat(netns, &status));
	if (inode != 0 && status.st_ino != inode)
		throw Failure(operation, ESTALE, "it is another network namespace now");
}

// Brings the thread back.
struct Home {
	File netns;
	explicit Home(const std::string &operation) : netns(checked(operation, open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)))
	{
	}
	~Home()
	{
		// Should this fail, nothing is read from a wrong place: each job enters a namespace of its own first.
		(void)setns(netns.number, CLONE_NEWNET);
	}
};

void inside(const std::string &path, const std::string &operation, const std::function<void(int netns)> &work)
{
	File netns(openNamespace(path, operation));
	Home home(operation);
	checked(operation, setns(netns.number, CLONE_NEWNET));
	work(netns.number);
}

void insideNew(const std::string &operation, const std::function<void()> &work)
{
	Home home(operation);
	checked(operation, unshare(CLONE_NEWNET));
	work();
}

NamespaceThread::~NamespaceThread()
{
	stop();
}

void NamespaceThread::start(Napi::Env env)
{
	completion = Completion::New(env, "network namespaces", 0, 1, this);
	completion.Unref(env); // a promise that waits keeps the process alive, this thread does not
	// Hooks run last in, first out: the thread has ended when the environment closes the function that it calls.
	env.AddCleanupHook([this] { stop(); });
	thread = std::thread([this] { work(); });
}

void NamespaceThread::submit(Napi::Env env, std::unique_ptr<Job> job)
{
	if (!thread.joinable())
		start(env);
	if (pending++ == 0)
		completion.Ref(env);
	std::lock_guard lock(mutex);
	queue.push_back(std::move(job));
	wake.notify_one();
}

void NamespaceThread::work()
{
	(void)prctl(PR_SET_NAME, COOKIE_THREAD);
	for (;;) {
		std::unique_lock lock(mutex);
		wake.wait(lock, [this] { return stopping || !queue.empty(); });
		if (stopping)
			return;
		std::unique_ptr<Job> job = std::move(queue.front());
		queue.pop_front();
		lock.unlock();
		job->run();
		Job *done = job.release();
		if (completion.NonBlockingCall(done) != napi_ok)
			delete done; // the environment is closing: nobody waits any more
	}
}

void NamespaceThread::settle(Napi::Env env, Napi::Function, NamespaceThread *self, Job *job)
{
	std::unique_ptr<Job> owned(job);
	if (napi_env(env) == nullptr) // the environment is closing
		return;
	if (--self->pending == 0)
		self->completion.Unref(env);
	owned->settle(env);
}

void NamespaceThread::stop()
{
	if (!thread.joinable())
		return;
	{
		std::lock_guard lock(mutex);
		stopping = true;
		wake.notify_one();
	}
	thread.join();
	completion.Abort();
}
