// SPDX-License-Identifier: Apache-2.0
// The ids of user namespaces. The kernel shows a map of ids in /proc of a process that is inside, and a namespace need not have one: so a child goes
// in for as long as reading takes. It is a copy of this process in the hands of another namespace's root, hence not dumpable: nobody there may look
// into it. Between fork and its end it makes system calls only.
#include "userns.h"
#include "arguments.h"
#include "descriptor.h"
#include "exports.h"
#include "namespaces.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>

constexpr int PATIENCE = 2000; // milliseconds
// 340 lines at most, of three numbers each.
constexpr size_t LONGEST_MAP = 64 * 1024;

struct IdMaps {
	uint64_t inode = 0; // of the network namespace
	std::string uid;
	std::string gid;
};

static uint64_t inodeOf(int number, const std::string &operation)
{
	struct stat status;
	checked(operation, fstat(number, &status));
	return status.st_ino;
}

static int ownerOf(int netns, const std::string &operation)
{
	return checked(operation + ", its user namespace", ioctl(netns, NS_GET_USERNS));
}

uint64_t foreignUserNamespace(int netns, const std::string &operation)
{
	File own(checked(operation, open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC)));
	File owner(ownerOf(netns, operation));
	uint64_t inode = inodeOf(owner.number, operation);
	return inode == inodeOf(own.number, operation) ? 0 : inode;
}

struct Pipe {
	explicit Pipe(const std::string &operation)
	{
		int ends[2];
		checked(operation, pipe2(ends, O_CLOEXEC));
		out.number = ends[0];
		in.number = ends[1];
	}
	File out{-1};
	File in{-1};
};

// A process inside the user namespace. It ends with this object, and with its parent at the latest: then the pipe that it reads is closed.
class Visitor
{
      public:
	Visitor(int users, const std::string &operation) : operation(operation), ready(operation), stay(operation)
	{
		sigset_t all, before;
		sigfillset(&all);
		// The handlers of this process are not for the child, which shares their pipes.
		pthread_sigmask(SIG_SETMASK, &all, &before);
		pid = fork();
		int error = errno;
		if (pid == 0)
			visit(users);
		pthread_sigmask(SIG_SETMASK, &before, nullptr);
		if (pid < 0)
			throw Failure(operation, error);
	}

	~Visitor()
	{
		(void)kill(pid, SIGKILL);
		while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR)
			;
	}

	void waitUntilInside()
	{
		pollfd event = {ready.out.number, POLLIN, 0};
		int error = 0, polled;
		while ((polled = poll(&event, 1, PATIENCE)) < 0 && errno == EINTR)
			;
		if (polled == 0)
			throw Failure(operation, ETIMEDOUT);
		// It cannot hang: poll has seen what the child writes, which is one piece.
		checked(operation, static_cast<int>(read(ready.out.number, &error, sizeof(error))));
		if (error)
			throw Failure(operation, error);
	}

	std::string text(const char *name) const
	{
		std::string path = "/proc/" + std::to_string(pid) + "/" + name, what = operation + ", " + name, text;
		File file(checked(what, open(path.c_str(), O_RDONLY | O_CLOEXEC)));
		char room[4096];
		for (;;) {
			size_t got = checked(what, static_cast<int>(read(file.number, room, sizeof(room))));
			if (got == 0)
				return text;
			text.append(room, got);
			if (text.size() > LONGEST_MAP)
				throw Failure(what, EMSGSIZE);
		}
	}

      private:
	[[noreturn]] void visit(int users)
	{
		char byte;
		close(stay.in.number);
		int error = prctl(PR_SET_DUMPABLE, 0) < 0 || setns(users, CLONE_NEWUSER) < 0 ? errno : 0;
		(void)prctl(PR_SET_DUMPABLE, 0); // new credentials may have made it what fs.suid_dumpable says
		(void)!write(ready.in.number, &error, sizeof(error));
		while (read(stay.out.number, &byte, sizeof(byte)) < 0 && errno == EINTR)
			;
		_exit(0);
	}

	std::string operation;
	Pipe ready;
	Pipe stay;
	pid_t pid = -1;
};

static IdMaps mapsOf(const std::string &path)
{
	std::string operation = "read the user namespace of network namespace " + path;
	File netns(openNamespace(path, operation));
	File users(ownerOf(netns.number, operation));
	Visitor visitor(users.number, operation);
	visitor.waitUntilInside();
	return {inodeOf(netns.number, operation), visitor.text("uid_map"), visitor.text("gid_map")};
}

// (path) -> {inode of the network namespace, uid, gid}: /proc/PID/uid_map and gid_map of the user namespace that owns it
static Napi::Value ids(const Napi::CallbackInfo &info)
{
	return onNamespaceThread<IdMaps>(
	    info.Env(), [path = pathArgument(info, 0)] { return mapsOf(path); },
	    [](Napi::Env env, IdMaps &maps) -> Napi::Value {
		    Napi::Object result = Napi::Object::New(env);
		    result.Set("inode", static_cast<double>(maps.inode));
		    result.Set("uid", maps.uid);
		    result.Set("gid", maps.gid);
		    return result;
	    });
}

void exportUserNamespaces(Napi::Env env, Napi::Object exports)
{
	exports.Set("namespaceIds", Napi::Function::New<guarded<ids>>(env));
}
