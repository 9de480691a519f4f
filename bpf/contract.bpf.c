/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every type of the contract once, so that all of them reach BTF. scripts/contract.ts compiles this file and reads nothing else of it; it is not
 * part of the datapath.
 */
#include "contract.h"

enum limit limit;
enum ability ability;
enum family family;
enum fact fact;
enum verdict verdict;
enum target_family target_family;
enum lookup lookup;
enum owner_kind owner_kind;
enum cidr_kind cidr_kind;
enum route_kind route_kind;
enum role role;
enum stage stage;
enum reason reason;
enum asker_limit asker_limit;
enum asker_network asker_network;
enum asker_kind asker_kind;
enum added_kind added_kind;

struct rule rule;
struct target target;
struct mark mark;
struct policy policy;
struct pod pod;
struct port_key port_key;
struct owner_key owner_key;
struct cidr_key cidr_key;
struct members members;
struct route_key route_key;
struct route route;
struct origin origin;
struct tuple tuple;
struct handover handover;
struct listener_key listener_key;
struct proxy_port proxy_port;
struct counter_key counter_key;
struct monitoring monitoring;
struct event event;
struct meta meta;
struct asker asker;
struct asked asked;
struct added added;
