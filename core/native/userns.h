// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

// The inode of the user namespace that owns a network namespace; 0: it is this process's own.
uint64_t foreignUserNamespace(int netns, const std::string &operation);
