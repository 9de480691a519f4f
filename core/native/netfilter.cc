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

// Both families' structs begin alike. A rule that redirects has the name of its target in its entry.
template <class Info, class Entries> static bool redirects(int family, int level, int infoOption, int entriesOption, const std::string &operation)
{
	File socket(checked(operation, ::socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)));
	Info info = {};
	strcpy(info.name, "nat");
	socklen_t size = sizeof(info);
	checked(operation, getsockopt(socket.number, level, infoOption, &info, &size));
	std::string buffer(sizeof(Entries) + info.size, '\0');
	Entries *entries = reinterpret_cast<Entries *>(buffer.data());
	strcpy(entries->name, "nat");
	entries->size = info.size;
	size = buffer.size();
	checked(operation, getsockopt(socket.number, level, entriesOption, entries, &size));
	return buffer.find(std::string("REDIRECT") + '\0') != std::string::npos || buffer.find(std::string("DNAT") + '\0') != std::string::npos;
}

bool legacyRedirects(const std::string &operation)
{
	return (hasTable("/proc/thread-self/net/ip_tables_names", "nat") &&
		redirects<ipt_getinfo, ipt_get_entries>(AF_INET, IPPROTO_IP, IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES, operation)) ||
	       (hasTable("/proc/thread-self/net/ip6_tables_names", "nat") &&
		redirects<ip6t_getinfo, ip6t_get_entries>(AF_INET6, IPPROTO_IPV6, IP6T_SO_GET_INFO, IP6T_SO_GET_ENTRIES, operation));
}
