// SPDX-License-Identifier: Apache-2.0
#include "watches.h"
#include "arguments.h"
#include "error.h"
#include "exports.h"
#include "namespaces.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static const std::string OPERATION = "watch network namespace";
// The number of the descriptor that ends the thread; watches count from 1.
constexpr uint64_t WAKE = 0;
constexpr int EVENTS = 64;
// More than the socket's buffer holds; what is left after that wakes the thread again.
constexpr int LONGEST_QUEUE = 4096;
// Policy rules. The headers have a mask for IPv4's only.
constexpr uint32_t RULES = RTMGRP_IPV4_RULE | 1u << (RTNLGRP_IPV6_RULE - 1);

Watch::Watch(Napi::Env env, std::shared_ptr<WatchThread> thread, SharedFile socket, Napi::Function callback)
    : thread(std::move(thread)), socket(std::move(socket)), callback(Napi::Persistent(callback)), id(this->thread->add(env, number(), this))
{
}

Watch::~Watch()
{
	end();
}

void Watch::deliver()
{
	// Nothing is decoded, not even ENOBUFS (messages were lost): whoever is told looks for himself.
	char byte;
	for (int count = 0; count < LONGEST_QUEUE; count++)
		if (recv(socket->number, &byte, sizeof(byte), MSG_DONTWAIT) < 0 && errno == EAGAIN)
			break;
	thread->arm(id, socket->number);
	Napi::Function function = callback.Value(); // which may end this watch
	function.Call({});
}

void Watch::end()
{
	if (!socket)
		return;
	thread->remove(id, socket->number);
	socket.reset();
	callback.Reset();
}

WatchThread::~WatchThread()
{
	stop();
}

void WatchThread::start(Napi::Env env)
{
	auto events = std::make_shared<File>(checked(OPERATION, epoll_create1(EPOLL_CLOEXEC)));
	auto ending = std::make_shared<File>(checked(OPERATION, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
	epoll_event event = {EPOLLIN, {.u64 = WAKE}};
	checked(OPERATION, epoll_ctl(events->number, EPOLL_CTL_ADD, ending->number, &event));
	delivery = Delivery::New(env, "namespace watches", 0, 1, this);
	delivery.Unref(env); // who waits for a change only need not be kept alive
	poller = std::move(events);
	wake = std::move(ending);
	// Hooks run last in, first out: the thread has ended when the environment closes the function that it calls.
	env.AddCleanupHook([this] { stop(); });
	thread = std::thread([this] { run(); });
}

uint64_t WatchThread::add(Napi::Env env, int socket, Watch *watch)
{
	if (stopped)
		throw Failure(OPERATION, ECANCELED, "the environment is ending");
	if (!thread.joinable())
		start(env);
	uint64_t id = ++last;
	epoll_event event = {EPOLLIN | EPOLLONESHOT, {.u64 = id}};
	checked(OPERATION, epoll_ctl(poller->number, EPOLL_CTL_ADD, socket, &event));
	watches.emplace(id, watch);
	return id;
}

void WatchThread::arm(uint64_t id, int socket)
{
	epoll_event event = {EPOLLIN | EPOLLONESHOT, {.u64 = id}};
	checked(OPERATION, epoll_ctl(poller->number, EPOLL_CTL_MOD, socket, &event));
}

void WatchThread::remove(uint64_t id, int socket)
{
	watches.erase(id);
	// Closing alone is not enough while a child between fork and exec has a copy.
	(void)epoll_ctl(poller->number, EPOLL_CTL_DEL, socket, nullptr);
}

void WatchThread::run()
{
	epoll_event events[EVENTS];
	for (;;) {
		int ready = epoll_wait(poller->number, events, EVENTS, -1);
		if (ready < 0 && errno != EINTR)
			return;
		for (int i = 0; i < ready; i++)
			if (events[i].data.u64 == WAKE || delivery.NonBlockingCall(reinterpret_cast<void *>(events[i].data.u64)) != napi_ok)
				return;
	}
}

// A watch that was closed meanwhile is not found.
void WatchThread::tell(Napi::Env env, Napi::Function, WatchThread *self, void *id)
{
	if (napi_env(env) == nullptr) // the environment is closing
		return;
	auto found = self->watches.find(reinterpret_cast<uint64_t>(id));
	if (found == self->watches.end())
		return;
	Napi::HandleScope scope(env);
	try {
		found->second->deliver();
	} catch (const Napi::Error &error) {
		error.ThrowAsJavaScriptException(); // an uncaught exception; not in an environment that is ending
	} catch (const Failure &failure) {
		nativeError(env, failure).ThrowAsJavaScriptException();
	}
}

void WatchThread::stop()
{
	stopped = true;
	if (!thread.joinable())
		return;
	uint64_t one = 1;
	(void)!write(wake->number, &one, sizeof(one));
	thread.join();
	delivery.Abort();
	while (!watches.empty())
		watches.begin()->second->end();
	poller.reset();
	wake.reset();
}

static SharedFile openSocket(const std::string &path)
{
	std::string operation = OPERATION + " " + path;
	SharedFile opened;
	inside(path, operation, [&](int) {
		opened = std::make_shared<File>(checked(operation, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)));
		sockaddr_nl groups = {};
		groups.nl_family = AF_NETLINK;
		// A link that goes down takes its routes along without a word about them.
		groups.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RULES;
		checked(operation, bind(opened->number, reinterpret_cast<sockaddr *>(&groups), sizeof(groups)));
	});
	return opened;
}

// (path) -> a socket that collects what happens in the namespace, for watchOpen
static Napi::Value socketOf(const Napi::CallbackInfo &info)
{
	std::string path = pathArgument(info, 0);
	return onNamespaceThread<SharedFile>(
	    info.Env(), [path] { return openSocket(path); },
	    [](Napi::Env env, SharedFile &socket) { return wrap(env, Kind::Socket, socket->release()); });
}

static constexpr napi_type_tag TAG = {0x6d65726272696467ull, 0x6e65747761746368ull};

using WatchBox = std::unique_ptr<Watch>; // empty: closed

// (socket, callback); takes the socket over
static Napi::Value open(const Napi::CallbackInfo &info)
{
	Descriptor &socket = descriptorArgument(info, 0, Kind::Socket);
	SharedFile file = fileOf(socket, OPERATION);
	if (!info[1].IsFunction())
		throw Napi::TypeError::New(info.Env(), "argument 1 must be a function");
	auto box = std::make_unique<WatchBox>(std::make_unique<Watch>(info.Env(), watchThread(info.Env()), file, info[1].As<Napi::Function>()));
	socket.file.reset();
	auto value = Napi::External<WatchBox>::New(info.Env(), box.get(), [](Napi::Env, WatchBox *box) { delete box; });
	box.release();
	value.TypeTag(&TAG);
	return value;
}

static WatchBox &watchArgument(const Napi::CallbackInfo &info)
{
	if (!info[0].IsExternal() || !info[0].As<Napi::External<WatchBox>>().CheckTypeTag(&TAG))
		throw Napi::TypeError::New(info.Env(), "argument 0 is not a watch");
	return *info[0].As<Napi::External<WatchBox>>().Data();
}

static Napi::Value closeWatch(const Napi::CallbackInfo &info)
{
	watchArgument(info).reset();
	return info.Env().Undefined();
}

// -> -1 when closed
static Napi::Value number(const Napi::CallbackInfo &info)
{
	WatchBox &box = watchArgument(info);
	return Napi::Number::New(info.Env(), box ? box->number() : -1);
}

void exportWatches(Napi::Env env, Napi::Object exports)
{
	exports.Set("namespaceSocket", Napi::Function::New<guarded<socketOf>>(env));
	exports.Set("watchOpen", Napi::Function::New<guarded<open>>(env));
	exports.Set("watchClose", Napi::Function::New<guarded<closeWatch>>(env));
	exports.Set("watchNumber", Napi::Function::New<guarded<number>>(env));
}
