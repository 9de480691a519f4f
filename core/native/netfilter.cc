// SPDX-License-Identifier: Apache-2.0
#include "netfilter.h"
#include "descriptor.h"
#include "error.h"

#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sys/socket.h>

#include <cstring>
#include <fstream>

// Asking for a table that does not exist makes the kernel create it, so look first which there are.
static bool hasTable(const char *names, const char *table)
{
	std::ifstream file(names);
	for (std::string line; std::getline(file, line);) {
		if (line == table)
			return true;
	}
	return false;
}

// Both families' structs begin alike: name, valid_hooks, per hook its place and policy's place, num_entries.
template <class Info> static uint32_t countRules(int family, int level, int option, const std::string &operation)
{
	File socket(checked(operation, ::socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)));
	Info info = {};
	strcpy(info.name, "nat");
	socklen_t size = sizeof(info);
	checked(operation, getsockopt(socket.number, level, option, &info, &size));
	// An empty table has one entry per built-in chain, its policy, and one that ends the table.
	uint32_t empty = __builtin_popcount(info.valid_hooks) + 1;
	return info.num_entries > empty ? info.num_entries - empty : 0;
}

uint32_t legacyNatRules(const std::string &operation)
{
	uint32_t rules = 0;
	if (hasTable("/proc/thread-self/net/ip_tables_names", "nat"))
		rules += countRules<ipt_getinfo>(AF_INET, IPPROTO_IP, IPT_SO_GET_INFO, operation);
	if (hasTable("/proc/thread-self/net/ip6_tables_names", "nat"))
		rules += countRules<ip6t_getinfo>(AF_INET6, IPPROTO_IPV6, IP6T_SO_GET_INFO, operation);
	return rules;
}
