// SPDX-License-Identifier: Apache-2.0
// Records of a BPF_MAP_TYPE_RINGBUF: a native thread waits for them, the event loop gets copies in batches, one after the other. When it is slower
// than the programs, the map fills and its programs see that.
#include "arguments.h"
#include "descriptor.h"
#include "error.h"
#include "exports.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <thread>
#include <vector>

struct Batch {
	std::vector<std::vector<uint8_t>> records;
	std::shared_ptr<File> taken; // an eventfd, written when the receiver has had them
};

static void deliver(Napi::Env env, Napi::Function callback, std::nullptr_t *, Batch *batch)
{
	std::unique_ptr<Batch> owned(batch);
	if (napi_env(env) == nullptr) // closing
		return;
	try {
		for (const auto &record : batch->records)
			callback.Call({Napi::Buffer<uint8_t>::Copy(env, record.data(), record.size())});
	} catch (const Napi::Error &error) {
		error.ThrowAsJavaScriptException(); // an uncaught exception; not in an environment that is ending
	}
	(void)eventfd_write(batch->taken->number, 1);
}

using Delivery = Napi::TypedThreadSafeFunction<std::nullptr_t, Batch, deliver>;

constexpr size_t WAITING = 1;
constexpr size_t BATCH = 256;
// Milliseconds that the event loop has for other work after a full batch; a burst has room in the map meanwhile.
constexpr int PAUSE = 5;

class Ring
{
      public:
	Ring(Napi::Env env, SharedFile map, Napi::Function callback);
	~Ring();
	void stop();
	int number() const
	{
		return wake.number;
	}

      private:
	static int take(void *self, void *data, size_t size);
	bool flush();
	void run();

	SharedFile map;
	File wake;
	std::unique_ptr<ring_buffer, void (*)(ring_buffer *)> buffer;
	std::shared_ptr<File> taken;
	std::unique_ptr<Batch> batch;
	Delivery delivery;
	std::thread thread;
};

Ring::Ring(Napi::Env env, SharedFile map, Napi::Function callback)
    : map(std::move(map)), wake(checked("open ring buffer", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))), buffer(nullptr, ring_buffer__free),
      taken(std::make_shared<File>(checked("open ring buffer", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)))), batch(new Batch{{}, taken})
{
	buffer.reset(ring_buffer__new(this->map->number, take, this, nullptr));
	if (!buffer)
		throw Failure("open ring buffer", errno);
	delivery = Delivery::New(env, callback, "ring buffer", WAITING, 1);
	thread = std::thread([this] { run(); });
}

Ring::~Ring()
{
	stop();
}

int Ring::take(void *self, void *data, size_t size)
{
	Ring &ring = *static_cast<Ring *>(self);
	auto *bytes = static_cast<uint8_t *>(data);
	ring.batch->records.emplace_back(bytes, bytes + size);
	return ring.batch->records.size() < BATCH || ring.flush() ? 0 : -ECANCELED;
}

// false: the receiver is closing
bool Ring::flush()
{
	if (batch->records.empty())
		return true;
	bool full = batch->records.size() >= BATCH;
	if (delivery.BlockingCall(batch.get()) != napi_ok)
		return false;
	(void)batch.release();
	batch.reset(new Batch{{}, taken});
	pollfd waiting[] = {{wake.number, POLLIN, 0}, {taken->number, POLLIN, 0}};
	while (poll(waiting, 2, -1) < 0)
		;
	eventfd_t count;
	(void)eventfd_read(taken->number, &count);
	return !waiting[0].revents && (!full || poll(waiting, 1, PAUSE) <= 0);
}

void Ring::run()
{
	pollfd waiting[] = {{ring_buffer__epoll_fd(buffer.get()), POLLIN, 0}, {wake.number, POLLIN, 0}};
	for (;;) {
		int ready = poll(waiting, 2, -1);
		if (waiting[1].revents || (ready < 0 && errno != EINTR))
			return;
		if (ring_buffer__consume(buffer.get()) == -ECANCELED || !flush())
			return;
	}
}

void Ring::stop()
{
	if (!thread.joinable())
		return;
	delivery.Abort(); // first, because the thread may be waiting for room in its queue
	uint64_t one = 1;
	(void)!write(wake.number, &one, sizeof(one));
	thread.join();
	buffer.reset();
	map.reset();
}

static constexpr napi_type_tag TAG = {0x6d65726272696467ull, 0x72696e6762756666ull};

// A ring that is open when its environment ends is stopped before the function that its thread calls goes away.
struct OpenRing {
	OpenRing(napi_env env, SharedFile map, Napi::Function callback) : env(env), ring(env, std::move(map), callback)
	{
		napi_add_env_cleanup_hook(env, stop, &ring); // hooks run last in, first out
	}
	~OpenRing()
	{
		napi_remove_env_cleanup_hook(env, stop, &ring);
	}
	static void stop(void *ring)
	{
		static_cast<Ring *>(ring)->stop();
	}
	napi_env env;
	Ring ring;
};

using RingBox = std::unique_ptr<OpenRing>; // empty: closed

// (map, callback)
static Napi::Value open(const Napi::CallbackInfo &info)
{
	Descriptor &map = descriptorArgument(info, 0, Kind::Map);
	SharedFile file = fileOf(map, "open ring buffer");
	if (!info[1].IsFunction())
		throw Napi::TypeError::New(info.Env(), "argument 1 must be a function");
	auto box = std::make_unique<RingBox>(std::make_unique<OpenRing>(info.Env(), file, info[1].As<Napi::Function>()));
	auto value = Napi::External<RingBox>::New(info.Env(), box.get(), [](Napi::Env, RingBox *box) { delete box; });
	box.release();
	value.TypeTag(&TAG);
	return value;
}

static RingBox &ringArgument(const Napi::CallbackInfo &info)
{
	if (!info[0].IsExternal() || !info[0].As<Napi::External<RingBox>>().CheckTypeTag(&TAG))
		throw Napi::TypeError::New(info.Env(), "argument 0 is not a ring buffer");
	return *info[0].As<Napi::External<RingBox>>().Data();
}

static Napi::Value closeRing(const Napi::CallbackInfo &info)
{
	ringArgument(info).reset();
	return info.Env().Undefined();
}

// -> -1 when closed
static Napi::Value number(const Napi::CallbackInfo &info)
{
	RingBox &box = ringArgument(info);
	return Napi::Number::New(info.Env(), box ? box->ring.number() : -1);
}

void exportRingBuffers(Napi::Env env, Napi::Object exports)
{
	exports.Set("ringOpen", Napi::Function::New<guarded<open>>(env));
	exports.Set("ringClose", Napi::Function::New<guarded<closeRing>>(env));
	exports.Set("ringNumber", Napi::Function::New<guarded<number>>(env));
}
