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
enum accel_mode accel_mode;
enum accel_stop accel_stop;
struct accel_settings accel_settings;
struct accelerated accelerated;
struct pair_key pair_key;
enum pair_side pair_side;
struct joined_key joined_key;
enum accel_read accel_read;
enum accel_place accel_place;
enum accel_ask accel_ask;
struct program_key program_key;
enum splices splices;
struct program program;
struct side side;
struct pair pair;
struct membership membership;
enum accel_reason accel_reason;
struct accel_key accel_key;
struct accel_count accel_count;
enum accel_quirk accel_quirk;
enum asks asks;
