// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

// The ports that nat tables of legacy iptables and ip6tables redirect to, in the namespace that the thread is in: one for each rule with REDIRECT or
// DNAT, 0 where the rule does not name one. Empty: nothing is redirected.
std::vector<uint16_t> legacyRedirects(const std::string &operation);
