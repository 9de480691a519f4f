/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The part of the contract that is about acceleration (docs/acceleration.md); contract.h includes it. */
#ifndef MERBRIDGE_CONTRACT_ACCEL_H
#define MERBRIDGE_CONTRACT_ACCEL_H

#include <linux/types.h>

/* Toward which receivers messages are redirected. */
enum accel_mode {
	ACCEL_NONE = 0,	   /* toward nobody */
	ACCEL_PROXIES = 1, /* toward sockets of the mesh's proxies */
	ACCEL_AUTO = 2,	   /* also toward apps whose program cannot splice */
	ACCEL_ALL = 3,	   /* also toward apps whose program is not known to splice */
};

/* Why nothing is redirected at all, or-ed in accel_settings.stopped. */
enum accel_stop {
	STOP_OPERATOR = 1, /* `merbridge accelerate off` */
	STOP_PRESSURE = 2, /* the node is short of memory */
	STOP_KERNEL = 4,   /* the self-test did not pass on this kernel */
	STOP_LEAVING = 8,  /* the datapath is being taken away */
};

/* What this kernel does wrong for sockets in a sockhash, or-ed in accel_settings.quirks. */
enum accel_quirk {
	QUIRK_FIONREAD = 1, /* FIONREAD does not count what waits on TCP's way (6.6.128, 6.12.75, 6.18.14 and later ones) */
};

/*
 * accel_settings: array of one. The offset of `stopped` and the meaning of STOP_OPERATOR and STOP_PRESSURE are the same in every version, as are key
 * and value of the map `halted`: a version that comes after another one keeps off what an operator has switched off.
 */
struct accel_settings {
	__u64 budget;  /* bytes that may wait in the queue of one receiver */
	__u32 stopped; /* enum accel_stop, or-ed; 0: redirect */
	__u32 quirks;  /* enum accel_quirk, or-ed */
};
_Static_assert(sizeof(struct accel_settings) == 16, "accel_settings");
_Static_assert(__builtin_offsetof(struct accel_settings, stopped) == 8, "accel_settings.stopped");

/*
 * accelerated: netns cookie -> what holds in the pod. No entry: its sockets are not joined. The value repeats its key as the first field, as struct
 * pod does.
 */
struct accelerated {
	__u64 netns;
	enum accel_mode mode;
	__u32 uid; /* of the proxy, in the initial user namespace: a socket whose file has this uid or this gid is the proxy's; 0xffffffff: not by uid
		    */
	__u32 gid; /* 0xffffffff: not by gid */
	__u32 mark; /* 0: not by mark; else a socket with exactly this mark is the proxy's, and uid and gid say nothing */
};
_Static_assert(sizeof(struct accelerated) == 24, "accelerated");

/*
 * pairs: the first sequence numbers of both directions -> both ends of the connection. They are random, no address translation changes them, and both
 * ends know both: so two sockets with one key are the two ends of one connection.
 */
struct pair_key {
	__u32 client; /* first sequence number after the client's SYN, host order */
	__u32 server; /* after the server's */
};
_Static_assert(sizeof(struct pair_key) == 8, "pair_key");

enum pair_side { SIDE_CLIENT = 0, SIDE_SERVER = 1 };

/* joined: sockhash of the sockets themselves. */
struct joined_key {
	struct pair_key pair;
	enum pair_side side;
};
_Static_assert(sizeof(struct joined_key) == 12, "joined_key");

/* How a socket was seen reading, or-ed in side.reads. */
enum accel_read {
	READ_RECV = 1,	 /* recv, read, readv, recvmsg, io_uring: whatever copies */
	READ_SPLICE = 2, /* splice, tee: what sees the TCP queue alone */
};

/* What `readers` tells besides netns cookies: none is 0, and 1 is that of the node, which is no pod's. */
enum accel_ask {
	ASK_SOON = 0,  /* a socket may be ready to join, or wants to leave */
	ASK_LATER = 1, /* bytes come by TCP behind redirected ones: some time later a reader may stand still */
};

/* Where a socket stands, in side.place. */
enum accel_place {
	PLACE_WAITING = 0, /* not in joined: it has not shown yet that it should be */
	PLACE_READY = 1,   /* it has; as soon as the other end has, too, both join */
	PLACE_JOINED = 2,  /* in joined */
	PLACE_LEAVING = 3, /* in joined, and wants to leave: a queue that is empty stays so, one that is not still gets what belongs behind */
	PLACE_PARTING = 4, /* in joined: for the moment of its last look, nobody may begin to redirect to it, nor it itself */
	PLACE_LEFT = 5,	   /* plain TCP until its end, or until the mode is a wider one (pair.spared) */
};

/* An executable file. */
struct program_key {
	__u64 inode;
	__u32 device; /* as the kernel has it: major << 20 | minor */
	__u32 _pad;
};
_Static_assert(sizeof(struct program_key) == 16, "program_key");

/* Can it read a socket with splice()? */
enum splices {
	SPLICES_UNKNOWN = 0, /* nobody has looked yet: no app is accelerated on a guess */
	SPLICES_NEVER = 1,   /* nothing that it has mapped calls splice, tee or vmsplice */
	SPLICES_MAYBE = 2,   /* it could not be told, or its scripts may */
	SPLICES_DOES = 3,    /* it calls it, or was seen doing it */
};

/* Does it ask a socket how many bytes it could read (FIONREAD)? Only interesting where the kernel answers wrong: QUIRK_FIONREAD. */
enum asks {
	ASKS_UNKNOWN = 0,
	ASKS_NEVER = 1,
	ASKS_MAYBE = 2,
	ASKS_DOES = 3,
};

/* programs: executable -> what is known of it. Entered by the reader's first read, judged by the agent. */
struct program {
	enum splices splices;
	enum asks asks;
	__u32 pid; /* a process that ran it, in the initial PID namespace */
	__u32 _pad;
	__u64 started; /* nanoseconds of CLOCK_BOOTTIME when that process started: it tells it from a later one with the same pid */
};
_Static_assert(sizeof(struct program) == 24, "program");

/*
 * One end of a connection. Written by the end itself, when it sends. But: who reads from it writes reads and program, the other end writes behind,
 * and judged and splices with what it has looked up; place is mb_late's, which also moves fresh_* to accel_counters, and by_tcp ahead; settled is
 * written by whoever has seen it.
 */
struct side {
	__u64 sk;		    /* address of struct sock; 0: this end is not known. Only good while the socket there has the cookie */
	__u64 cookie;		    /* socket cookie */
	__u64 netns;		    /* netns cookie of its pod */
	struct program_key program; /* that reads from it */
	__u64 redirects;	    /* how many messages it has begun to redirect to the other end */
	__u64 settled;		    /* so many of them are known to be in its queue, or read (note_settled) */
	__u64 messages;		    /* how many it has sent */
	__u64 heard;		    /* messages of the other end when it sent last */
	__u32 streak;		    /* how many messages below LARGE it has sent since it heard from the other end */
	__u32 reads;		    /* enum accel_read, or-ed */
	enum accel_place place;
	__u32 reason;	/* enum accel_reason of its last message; of an end that is not joined: why it may not */
	__u32 proxy;	/* 1: it was accepted after a redirect, so a proxy has it */
	__u32 notes;	/* messages that it has redirected and that may wait in the other end's queue, at most */
	__u64 queued;	/* bytes that it has redirected since the other end's queue was seen empty */
	__u64 by_tcp;	/* bytes that went by TCP and are in accel_counters already */
	__u32 segments; /* TCP's segments with data that are, as messages: of a socket that is not joined nobody sees the messages themselves */
	__u32 behind;	/* 1: bytes come by TCP behind what waits in this end's queue: its reader may have to be told again (mb_nudge) */
	__u64 mark;	/* queued, at some time since: what was sent before is read when so many bytes are; then notes starts from there */
	__u32 since;	/* messages that it has redirected since the mark */
	__u32 lost;	/* what being joined has cost: weights of messages that went by TCP, and */
	__u32 won;	/* of those that were redirected (eligible.bpf.h) */
	__u32 judged;	/* `verdicts` when this end's program was looked up last, plus one; 0: look it up. `splices` is what was found */
	enum splices splices;
	__u32 fresh_messages; /* redirected, and not yet in accel_counters */
	__u64 fresh_bytes;
	__u64 front;	/* the message that this end was to read next when it was last looked whether an end may leave; 0: none */
	__u32 stalled;	/* copied_seq of this end when it was last looked whether it has read what came behind, and since when that is so: */
	__u32 since_ms; /* milliseconds of CLOCK_MONOTONIC, the lower half; 0: not looked yet */
};
_Static_assert(sizeof(struct side) == 176, "side");

/* The value repeats its key as the first field, as struct pod does. */
struct pair {
	struct pair_key key;
	__u32 broken;	      /* three sockets with one key: none of them is joined */
	__u32 spared;	      /* modes_of() under which joining did not pay, plus one: a wider one gives it another chance; 0: none */
	struct side sides[2]; /* enum pair_side */
};
_Static_assert(sizeof(struct pair) == 368, "pair");

/* sides: socket storage. */
struct membership {
	struct joined_key key;
	__u32 leave;  /* enum accel_reason, when the socket shall leave joined; 0: it stays */
	__u32 reads;  /* as side.reads: what was told already */
	__u32 pid;    /* of the process that was told already, in the initial PID namespace */
	__u32 seen;   /* how many reads there were; only the first ones are counted */
	__u32 joined; /* 1: it is in joined, or was when its connection ended */
};
_Static_assert(sizeof(struct membership) == 32, "membership");

/* What became of a message; index of accel_counters. In the order in which it is asked. */
enum accel_reason {
	ACCEL_REDIRECTED = 0,
	ACCEL_NO_PARTNER = 1, /* the other end is not on this node, or not (yet) known */
	ACCEL_STOPPED = 2,    /* switched off for all: accel_settings.stopped */
	ACCEL_POD = 3,	      /* switched off for the pod of one of the ends */
	ACCEL_CLOSING = 4,    /* one of the ends is closing, shut down, or leaves */
	ACCEL_SENDER =
	    5, /* the sender has a ULP (kTLS), SO_ZEROCOPY, time stamps, TCP_USER_TIMEOUT, TCP_CORK or a pacing rate, or is being repaired */
	ACCEL_RECEIVER = 6, /* the receiver has a ULP, SO_ZEROCOPY, time stamps, SO_RCVLOWAT, SO_PEEK_OFF, a socket filter, TCP_INQ, or urgent data */
	ACCEL_BLOCKING = 7, /* one of the ends is a blocking socket */
	ACCEL_NOT_READ = 8, /* the receiver was not seen reading yet */
	ACCEL_SPLICES = 9,  /* the receiver reads with splice(), or its program does */
	ACCEL_MODE = 10,    /* the receiver is an app, and the mode spares apps */
	ACCEL_PROGRAM = 11, /* the receiver's program was not looked at yet, or (auto) might splice */
	ACCEL_MEMORY = 12,  /* the kernel is short of memory for sockets */
	ACCEL_ONE_WAY = 13, /* many messages without an answer: TCP is faster */
	ACCEL_BUDGET = 14,  /* the receiver is behind by the budget */
	ACCEL_ORDER = 15,   /* bytes that went by TCP are still on their way, or unread */
	ACCEL_GONE = 16,    /* the receiver left in this moment */
	ACCEL_FULL = 17,    /* no room in pairs, or the kernel refused to join one of the ends; counted for connections */
	ACCEL_WAITING = 18, /* one of the ends has not joined yet */
	ACCEL_FIONREAD = 19, /* the program of one of the ends asks FIONREAD, which this kernel answers wrong (QUIRK_FIONREAD) */
};

/* accel_counters. */
struct accel_key {
	__u64 netns; /* of the sender */
	enum accel_reason reason;
	__u32 _pad;
};
_Static_assert(sizeof(struct accel_key) == 16, "accel_key");

struct accel_count {
	__u64 messages;
	__u64 bytes;
	__u64 connections; /* that ended: redirected at least once (ACCEL_REDIRECTED), or never, and why not the last time */
};
_Static_assert(sizeof(struct accel_count) == 24, "accel_count");

#endif
