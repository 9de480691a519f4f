/* What the exchanges about ends, stalls and shared sockets have in common. */
#ifndef ENDINGS_H
#define ENDINGS_H

#include "exchange.h"

/* How a stream ended: `error` is 0 for EOF. */
struct ending {
	uint64_t bytes;
	int error;
};

int another(struct side *);	  /* a new connection, with TCP_NODELAY and warmed up: for exchanges that use theirs up */
int another_cold(struct side *);  /* one that is not */
void warm(struct side *, int fd); /* one that is new, or its socket's next one */
struct ending read_to_end(const struct side *, int fd, struct stream *); /* a wrong byte stops the half */
const char *ending_name(struct ending);					 /* "EOF" or the error's name */

short poll_now(int fd);
/* Each writes one line of the transcript: what happens at once, now; another outcome than plain TCP's is a failure. */
#define observe_poll(side, fd, when, wanted) observe_poll_at((side), __FILE__, __LINE__, (fd), (when), (wanted))
#define observe_recv(side, fd, when, wanted) observe_recv_at((side), __FILE__, __LINE__, (fd), (when), (wanted)) /* of one byte */
#define observe_send(side, fd, when, wanted) observe_send_at((side), __FILE__, __LINE__, (fd), (when), (wanted)) /* of one, without SIGPIPE */
#define observe_ending(side, what, ending, bytes, wanted) observe_ending_at((side), __FILE__, __LINE__, (what), (ending), (bytes), (wanted))
void observe_poll_at(const struct side *, const char *file, int line, int fd, const char *when, const char *wanted);
void observe_recv_at(const struct side *, const char *file, int line, int fd, const char *when, const char *wanted);
void observe_send_at(const struct side *, const char *file, int line, int fd, const char *when, const char *wanted);
void observe_ending_at(const struct side *, const char *file, int line, const char *what, struct ending, uint64_t bytes, const char *wanted);
bool wait_for_end(int fd); /* for POLLERR or POLLHUP, at most 3 s */
int socket_error(int fd);
void expect_end_unread(struct side *, int fd); /* the named difference: reset, or EOF at first, after the peer left data unread */
int tcp_state(int fd);
const char *tcp_state_name(int state);
void set_linger(const struct side *, int fd, int seconds);
void wait_acknowledged(const struct side *, int fd);	   /* until the peer has acknowledged all, also what it delays */
void drop_what_arrives(const struct side *, int fd, bool); /* the socket is as dead to its peer as a machine without power */

/* A process beside the half, which runs `work` and ends, with a channel between the two; the half's time-out holds for it too. */
pid_t start_process(struct side *, void (*work)(struct side *, int fd, int channel), int fd, int *channel);
void end_process(const struct side *, pid_t, int channel); /* waits; a failure there is one here */

#endif
