// SPDX-License-Identifier: Apache-2.0
// Work that runs on a native thread and settles a promise on the event loop.
#pragma once

#include "error.h"

#include <functional>
#include <memory>
#include <new>
#include <optional>

class Job
{
      public:
	virtual ~Job() = default;
	virtual void run() noexcept = 0;	// on a native thread; must not touch JavaScript
	virtual void settle(Napi::Env env) = 0; // on the event loop
};

template <class Result> class PromiseJob : public Job
{
      public:
	using Work = std::function<Result()>;
	// Throws nothing but JavaScript exceptions.
	using Finish = std::function<Napi::Value(Napi::Env, Result &)>;

	PromiseJob(Napi::Env env, Work work, Finish finish)
	    : deferred(Napi::Promise::Deferred::New(env)), work(std::move(work)), finish(std::move(finish))
	{
	}

	void run() noexcept override
	{
		try {
			result = work();
		} catch (const Failure &thrown) {
			failure = thrown;
		} catch (const std::bad_alloc &) {
			failure = Failure("allocate memory", ENOMEM);
		}
	}

	void settle(Napi::Env env) override
	{
		try {
			if (failure)
				deferred.Reject(nativeError(env, *failure).Value());
			else
				deferred.Resolve(finish(env, *result));
		} catch (const Napi::Error &error) {
			rejectWith(error);
		}
	}

	Napi::Value promise() const
	{
		return deferred.Promise();
	}

      private:
	void rejectWith(const Napi::Error &error)
	{
		try {
			deferred.Reject(error.Value());
		} catch (const Napi::Error &) {
			// The environment is ending, and no JavaScript runs in it any more.
		}
	}

	Napi::Promise::Deferred deferred;
	Work work;
	Finish finish;
	std::optional<Result> result;
	std::optional<Failure> failure;
};

class PoolWorker : public Napi::AsyncWorker
{
      public:
	PoolWorker(Napi::Env env, std::unique_ptr<Job> job) : Napi::AsyncWorker(env), job(std::move(job))
	{
	}
	void Execute() override
	{
		job->run();
	}
	void OnOK() override
	{
		job->settle(Env());
	}

      private:
	std::unique_ptr<Job> job;
};

// On a thread of libuv's pool: for work that is short and does not change the thread.
template <class Result> Napi::Value inPool(Napi::Env env, typename PromiseJob<Result>::Work work, typename PromiseJob<Result>::Finish finish)
{
	auto job = std::make_unique<PromiseJob<Result>>(env, std::move(work), std::move(finish));
	Napi::Value promise = job->promise();
	(new PoolWorker(env, std::move(job)))->Queue(); // deletes itself
	return promise;
}

struct Nothing {
};

inline Napi::Value undefinedOf(Napi::Env env, Nothing &)
{
	return env.Undefined();
}
