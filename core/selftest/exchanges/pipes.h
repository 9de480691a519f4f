/* Pipes between a socket and a program that does not look at what goes through. */
#ifndef PIPES_H
#define PIPES_H

#include "exchange.h"

struct pipe {
	int read, write;
};

struct pipe make_pipe(const struct side *);
void close_pipe(struct pipe);
/* One splice() from the socket that gives something; what poll() announces but splice() never gives stops the half. */
size_t splice_in(const struct side *, int fd, struct pipe, size_t most);
void splice_out(const struct side *, struct pipe, int fd, size_t size, unsigned flags); /* all of it */
void pipe_check(const struct side *, struct pipe, struct stream *, size_t size);
void pipe_fill(const struct side *, struct pipe, struct stream *, size_t size); /* at most 16 kB */

#endif
