// SPDX-License-Identifier: Apache-2.0
#include "netfilter.h"
#include "descriptor.h"
#include "error.h"

#include <arpa/inet.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/netfilter/nf_nat.h>
#include <sys/socket.h>

#include <cstddef>
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

// Both families' structs begin alike. Names of chains are in the table too, so only the targets of the rules are looked at.
template <class Entry> static void collect(const std::string &rules, size_t portOffset, std::vector<uint16_t> &ports)
{
	for (size_t at = 0; at + sizeof(Entry) <= rules.size();) {
		Entry entry;
		memcpy(&entry, rules.data() + at, sizeof(entry));
		if (entry.next_offset < sizeof(Entry) || at + entry.next_offset > rules.size() ||
		    entry.target_offset + sizeof(xt_entry_target) > entry.next_offset)
			return;
		const char *target = rules.data() + at + entry.target_offset;
		const char *name = target + offsetof(xt_entry_target, u.user.name);
		bool redirect = strncmp(name, "REDIRECT", XT_EXTENSION_MAXNAMELEN) == 0;
		if (redirect || strncmp(name, "DNAT", XT_EXTENSION_MAXNAMELEN) == 0) {
			uint16_t port = 0;
			if (redirect && entry.target_offset + sizeof(xt_entry_target) + portOffset + sizeof(port) <= entry.next_offset)
				memcpy(&port, target + sizeof(xt_entry_target) + portOffset, sizeof(port));
			ports.push_back(ntohs(port));
		}
		at += entry.next_offset;
	}
}

template <class Info, class Entries>
static std::string rulesOf(int family, int level, int infoOption, int entriesOption, const std::string &operation)
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
	return buffer.substr(offsetof(Entries, entrytable), info.size);
}

std::vector<uint16_t> legacyRedirects(const std::string &operation)
{
	std::vector<uint16_t> ports;
	if (hasTable("/proc/thread-self/net/ip_tables_names", "nat")) {
		auto rules = rulesOf<ipt_getinfo, ipt_get_entries>(AF_INET, IPPROTO_IP, IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES, operation);
		collect<ipt_entry>(rules, offsetof(nf_nat_ipv4_multi_range_compat, range[0].min), ports);
	}
	if (hasTable("/proc/thread-self/net/ip6_tables_names", "nat")) {
		auto rules = rulesOf<ip6t_getinfo, ip6t_get_entries>(AF_INET6, IPPROTO_IPV6, IP6T_SO_GET_INFO, IP6T_SO_GET_ENTRIES, operation);
		collect<ip6t_entry>(rules, offsetof(nf_nat_range, min_proto), ports);
	}
	return ports;
}
