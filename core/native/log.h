// SPDX-License-Identifier: Apache-2.0
// What libbpf says while one call runs on this thread, the verifier's log included. Nothing reaches stderr.
#pragma once

#include <string>

class Log
{
      public:
	Log();
	~Log();
	Log(const Log &) = delete;
	Log &operator=(const Log &) = delete;
	void append(const std::string &words);
	// The end of what was said, at most 64 KiB: the verifier's reason stands in the last lines.
	std::string text() const;

      private:
	std::string said;
};
