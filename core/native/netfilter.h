// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

// Entries of the nat tables of legacy iptables and ip6tables, beyond those of empty chains, in the namespace that the thread is in.
uint32_t legacyNatRules(const std::string &operation);
