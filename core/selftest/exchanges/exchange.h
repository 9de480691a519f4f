/* The exchanges: what two programs can do to each other with one TCP connection, and what both of them see of it. Each exchange has a client's half
 * and a server's half, which run as processes of their own. A half writes a transcript, one line for each observation; nothing of it depends on time
 * or chance, so two transcripts of one exchange are equal when nothing that a program can see has changed. What lies between the halves is not known
 * here. */
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>
#include <sys/socket.h>
#include <sys/types.h>

enum exchange_flags {
	EX_FAST = 1 << 0,      /* belongs to the self-test, which takes less than 3 s in all */
	EX_SLOW = 1 << 1,      /* only when it is named, or with --slow */
	EX_BLOCKING = 1 << 2,  /* uses blocking sockets, to which nothing is redirected */
	EX_OWN_START = 1 << 3, /* makes its connections itself: side->fd is -1 at its start */
	EX_NAGLE = 1 << 4,     /* without TCP_NODELAY, which the others set as proxies do */
	/* The closed list of differences that acceleration may make; main.c has their names. Such an exchange writes one line "difference NAME: ..."
	   for it. */
	EX_DIFFERS_URGENT = 1 << 8,	  /* urgent data arrives inline */
	EX_DIFFERS_CLOSE_UNREAD = 1 << 9, /* EOF instead of ECONNRESET after a close with unread data */
	EX_DIFFERS_MORE = 1 << 10,	  /* what is sent with MSG_MORE arrives before the message that ends it */
	EX_DIFFERS_TRUNC = 1 << 11,	  /* recv(MSG_TRUNC) writes to the buffer, and needs one */
	EX_DIFFERS_CONTROL = 1 << 12,	  /* sendmsg() does not look at control messages */
	EX_DIFFERS_EMPTY = 1 << 13,	  /* recv() of no bytes from an empty socket gives 0 at once */
	EX_DIFFERS_ZEROCOPY = 1 << 14,	  /* MSG_ZEROCOPY on a socket that got SO_ZEROCOPY when it was connected: more completions than calls */
	EX_DIFFERS_FAULT = 1 << 15,	  /* buffers that are not the program's: send() gives 0, recv() what fits */
	EX_DIFFERS_MAPPED = 1 << 16,	  /* TCP_ZEROCOPY_RECEIVE does not see what recv() would get */
	EX_DIFFERS_LOW_WATER = 1 << 17,	  /* SO_RCVLOWAT that is set while bytes are unread: they can be read below the mark */
	EX_DIFFERS_DISCONNECT = 1 << 18,  /* connect() to AF_UNSPEC leaves unread bytes, which have to be read before the next connect() */
};

enum role { CLIENT, SERVER };

struct address {
	struct sockaddr_storage address;
	socklen_t length; /* 0: none was given */
};

struct settings {
	struct address listen;	/* server */
	struct address connect; /* client */
	struct address bind;	/* client: its source address */
	const char *control;	/* path of the unix socket through which the halves meet; absent: both halves are children of one process */
	uint64_t seed;
	unsigned scale;	      /* the long exchanges do this many times what they do by default */
	unsigned part;	      /* and this part of it, as 4 for a fourth */
	unsigned timeout;     /* seconds for one exchange */
	unsigned warm;	      /* milliseconds for which a connection is in use before the exchange begins */
	bool gate;	      /* the client's standard input says when that time ends, see connection.c */
	unsigned connections; /* for the exchange with many */
	uint64_t bound;	      /* bytes that may be under way to a reader that does not read */
	long uid[2];	      /* user of each role's half; -1: as it is */
};

struct side {
	int fd; /* the connection: non-blocking and warmed up, unless EX_OWN_START */
	enum role role;
	uint64_t seed;	   /* the same for both halves */
	const char *phase; /* begins each line of the transcript; see both_ways() */
	const struct settings *settings;
	int control;  /* how the halves meet; belongs to meeting.c */
	int listener; /* server: the listening socket; client: -1 */
	int record;   /* where transcript and failures go; belongs to transcript.c */
};

struct exchange {
	const char *name;  /* small letters, digits and '-'; null ends a table */
	const char *title; /* what it does, in words */
	unsigned flags;
	void (*client)(struct side *);
	void (*server)(struct side *);
};

/* transcript.c. `note` writes a line; `expect` records a failure and goes on; `stop` records a failure and ends this half; `skip` ends it without
 * one, for what this kernel does not have (both halves must come to that by themselves, or agree by side_agree()). */
void note(const struct side *, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define expect(side, condition, ...) ((condition) ? (void)0 : fail((side), __FILE__, __LINE__, #condition, __VA_ARGS__))
/* Writes the line "WHAT: GOT", and records a failure when it is not what plain TCP gives. */
#define observe(side, what, got, wanted) observe_at((side), __FILE__, __LINE__, (what), (got), (wanted))
#define observe_number(side, what, got, wanted) observe_number_at((side), __FILE__, __LINE__, (what), (got), (wanted))
void observe_at(const struct side *, const char *file, int line, const char *what, const char *got, const char *wanted);
void observe_number_at(const struct side *, const char *file, int line, const char *what, long long got, long long wanted);
#define stop(side, ...) stop_at((side), __FILE__, __LINE__, __VA_ARGS__)
void fail(const struct side *, const char *file, int line, const char *condition, const char *format, ...) __attribute__((format(printf, 5, 6)));
noreturn void stop_at(const struct side *, const char *file, int line, const char *format, ...) __attribute__((format(printf, 4, 5)));
noreturn void skip(const struct side *, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *error_name(int number);					   /* "EAGAIN"; "0" for 0 */
const char *outcome(char buffer[32], ssize_t result);			   /* "17", or the name of errno when the result is -1 */
const char *poll_bits(char buffer[64], short bits);			   /* "IN|OUT"; "none" */
void doing(const char *format, ...) __attribute__((format(printf, 1, 2))); /* what a time-out says that this half was doing */

/* meeting.c. Both halves must call the same with the same name, in the same order. Only the main thread may. */
void side_meet(struct side *, const char *name);
uint64_t side_swap(struct side *, const char *name, uint64_t mine); /* gives the other half's number */
bool side_agree(struct side *, const char *name, bool mine);	    /* whether both said yes */
void meeting_begin(struct side *, int control_listener, unsigned number, const char *exchange);
int control_listen(const char *path);
/* The client runs `give` and the server `take`, they meet, and then the other way round; lines of the transcript begin with the direction. */
void both_ways(struct side *, void (*give)(struct side *), void (*take)(struct side *));

/* connection.c. What is connected or accepted here is non-blocking. */
bool parse_address(const char *text, struct address *);
int listen_at(const struct address *);
int side_socket(const struct side *);	 /* client: a blocking socket that is bound to --bind and not connected */
int side_connect_another(struct side *); /* client: one more connection to the same server; the server calls side_accept_another() */
int side_accept_another(struct side *);
void warm_up(struct side *, int fd);   /* both halves: some small requests and responses */
void keep_warm(struct side *, int fd); /* both halves: more of them, for as long as --warm says */
void set_blocking(const struct side *, int fd, bool);
void set_option(const struct side *, int fd, int level, int name, int value);
int get_option(const struct side *, int fd, int level, int name);

/* input.c: what ends in an error that the exchange does not expect stops the half. Blocking and non-blocking sockets. */
bool wait_for(int fd, short events, int milliseconds);
void send_all(const struct side *, int fd, const void *, size_t);
void receive_all(const struct side *, int fd, void *, size_t); /* exactly that many */
void settle(const struct side *, int fd, size_t bytes);	       /* waits until that many bytes can be read; reads none. At most 256 kB */
void nap(unsigned microseconds);
int64_t now_us(void);

/* content.c: a stream's content depends on its key and on the place of each byte in it, so lost, doubled, exchanged and foreign bytes all show. */
uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t limit);
void content_fill(void *, size_t, uint64_t key, uint64_t position);
size_t content_right(const void *, size_t, uint64_t key, uint64_t position); /* how many bytes at the beginning are right */
uint64_t checksum(uint64_t before, const void *, size_t);
struct stream {
	uint64_t key, position, sum;
};
struct stream stream_to(const struct side *, enum role reader); /* the content of one direction of this exchange */
struct stream direction(const struct side *, bool giving);	/* the same, of the direction that both_ways() has come to */
void note_stream(const struct side *, const char *what, const struct stream *);
void stream_send(const struct side *, int fd, struct stream *, size_t);
void stream_receive(const struct side *, int fd, struct stream *, size_t); /* a wrong byte stops the half */
uint64_t fill_up(struct side *, int fd, struct stream *); /* sends until nothing more fits: at most --bound bytes; gives how many; see input.c */
void stream_check(const struct side *, struct stream *, const void *, size_t); /* what was read in another way */

#endif
