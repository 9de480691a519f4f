// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

// Does a nat table of legacy iptables or ip6tables redirect something, in the namespace that the thread is in?
bool legacyRedirects(const std::string &operation);
