/* What lies over or under TCP: MPTCP, kernel TLS, zero-copy. None of it is ever redirected. */
#include "endings.h"
#include "pipes.h"
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define ROUNDS 60
#define MESSAGE 3000
#define COPIED 50000
#define COPIES 20

static void talk(struct side *side, int fd)
{
	struct stream out = stream_to(side, !side->role), in = stream_to(side, side->role);

	for (int i = 0; i < ROUNDS; i++) {
		if (side->role == CLIENT)
			stream_send(side, fd, &out, MESSAGE);
		stream_receive(side, fd, &in, MESSAGE);
		if (side->role == SERVER)
			stream_send(side, fd, &out, MESSAGE);
	}
	note_stream(side, "stream", &in);
}

static in_port_t *port_of(struct address *address)
{
	return &((struct sockaddr_in *)&address->address)->sin_port; /* at the same place in IPv6's */
}

/* Interception may bring what was meant for one listener to the other one. */
static int accept_either(struct side *side, int own)
{
	struct pollfd both[2] = {{own, POLLIN, 0}, {side->listener, POLLIN, 0}};

	doing("waiting for a connection of MPTCP");
	while (poll(both, 2, -1) < 0 && errno == EINTR)
		;
	int fd = accept4(both[0].revents ? own : side->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		stop(side, "accept(): %s", error_name(errno));
	return fd;
}

static void mptcp_server(struct side *side)
{
	struct address here = side->settings->listen;
	int own = socket(here.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_MPTCP);

	if (!side_agree(side, "MPTCP", own >= 0))
		skip(side, "this kernel has no MPTCP");
	*port_of(&here) = 0;
	if (bind(own, (struct sockaddr *)&here.address, here.length) < 0 || listen(own, 16) < 0 ||
	    getsockname(own, (struct sockaddr *)&here.address, &here.length) < 0)
		stop(side, "a listener of MPTCP: %s", error_name(errno));
	side_swap(side, "port", *port_of(&here));
	for (int plain = 0; plain < 2; plain++) {
		int fd = plain ? side_accept_another(side) : accept_either(side, own);

		talk(side, fd);
		close(fd);
	}
	close(own);
}

/* To a listener of MPTCP, and to one that has only TCP. */
static void mptcp_client(struct side *side)
{
	struct address to = side->settings->connect;
	int probe = socket(to.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	if (!side_agree(side, "MPTCP", probe >= 0))
		skip(side, "this kernel has no MPTCP");
	close(probe);
	*port_of(&to) = side_swap(side, "port", 0);
	for (int plain = 0; plain < 2; plain++) {
		int fd = socket(to.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
		const struct address *at = plain ? &side->settings->connect : &to;

		if (fd < 0 || connect(fd, (const struct sockaddr *)&at->address, at->length) < 0)
			stop(side, "connect() of MPTCP: %s", error_name(errno));
		set_blocking(side, fd, false);
		talk(side, fd);
		close(fd);
	}
}

/* Fixed keys: one for each direction. */
static bool set_key(int fd, int direction, enum role reader)
{
	struct tls12_crypto_info_aes_gcm_128 key = {.info = {TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128}};

	memset(key.key, 'k' + reader, sizeof key.key);
	memset(key.salt, 's' + reader, sizeof key.salt);
	memset(key.iv, 'i' + reader, sizeof key.iv);
	return setsockopt(fd, SOL_TLS, direction, &key, sizeof key) == 0;
}

static void kernel_tls(struct side *side)
{
	int probe = another(side);
	bool has = setsockopt(probe, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0;

	if (!side_agree(side, "kernel TLS", has))
		skip(side, "this kernel has no TLS");
	close(probe);
	talk(side, side->fd);
	side_meet(side, "all read"); /* nothing in the clear is under way when the keys are set */
	if (setsockopt(side->fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") < 0)
		stop(side, "setsockopt(TCP_ULP): %s", error_name(errno));
	bool keys = set_key(side->fd, TLS_TX, !side->role) && set_key(side->fd, TLS_RX, side->role);
	const char *error = error_name(keys ? 0 : errno);
	if (!side_agree(side, "keys", keys))
		skip(side, "this kernel has no AES-GCM for its TLS (%s)", error);
	talk(side, side->fd);
	side_meet(side, "done");
}

/* Reads what the error queue has; gives how many calls of send() it tells of. */
static unsigned completions(const struct side *side, int fd)
{
	unsigned found = 0;

	for (;;) {
		char control[128];
		struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};

		if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			return found;
		for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each)) {
			const struct sock_extended_err *error = (const void *)CMSG_DATA(each);

			expect(side, error->ee_origin == SO_EE_ORIGIN_ZEROCOPY && error->ee_errno == 0, "the error queue has an error");
			found += error->ee_data - error->ee_info + 1;
		}
	}
}

static void zerocopy_give(struct side *side)
{
	struct stream stream = stream_to(side, !side->role);
	static char bytes[COPIES * COPIED];
	unsigned calls = 0, done = 0;

	set_option(side, side->fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	content_fill(bytes, sizeof bytes, stream.key, 0);
	for (size_t place = 0; place < sizeof bytes;) {
		size_t size = COPIED < sizeof bytes - place ? COPIED : sizeof bytes - place;
		ssize_t sent = send(side->fd, bytes + place, size, MSG_ZEROCOPY | MSG_NOSIGNAL);

		doing("sending %zu bytes with MSG_ZEROCOPY", size);
		if (sent < 0 && errno == ENOBUFS)
			done += completions(side, side->fd);
		else if (sent < 0 && errno == EAGAIN)
			wait_for(side->fd, POLLOUT, 100);
		else if (sent <= 0)
			stop(side, "send(MSG_ZEROCOPY): %s", error_name(errno));
		if (sent > 0) {
			calls++;
			place += sent;
		}
	}
	side_meet(side, "read");
	for (int tries = 0; done < calls && tries < 3000; tries++) {
		wait_for(side->fd, 0, 1);
		done += completions(side, side->fd);
	}
	note(side, "difference zerocopy: completions of %s calls", done == calls ? "all" : done < calls ? "some" : "too many");
	expect(side, done >= calls, "%u calls and %u completions", calls, done);
	set_option(side, side->fd, SOL_SOCKET, SO_ZEROCOPY, 0);
}

static void zerocopy_take(struct side *side)
{
	struct stream stream = stream_to(side, side->role);

	stream_receive(side, side->fd, &stream, COPIES * COPIED);
	side_meet(side, "read");
	note_stream(side, "stream", &stream);
}

static void zerocopy(struct side *side)
{
	both_ways(side, zerocopy_give, zerocopy_take);
}

const struct exchange layer_exchanges[] = {
    {"mptcp", "MPTCP to a listener of MPTCP, and to one that has only TCP", EX_OWN_START, mptcp_client, mptcp_server},
    {"kernel-tls", "TCP_ULP tls: kernel TLS on a connection that has carried clear text", 0, kernel_tls, kernel_tls},
    {"zerocopy", "SO_ZEROCOPY: MSG_ZEROCOPY with its completions", EX_FAST | EX_DIFFERS_ZEROCOPY, zerocopy, zerocopy},
    {0},
};
